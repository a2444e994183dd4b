/* SPDX-License-Identifier: Apache-2.0 */
/* Screens onto a terminal by curses, keys by their names. The screen's thread only. Styles become attributes here: colour marks
 * states and nothing else, and where there is none, bold, reverse and underline do. */
#include "aigwtop/view/term.h"

#include <curses.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "libshared/base/utf8.h"
#include "libshared/cli/term.h"

#define SEQUENCE_MAX 32u

static SCREEN *terminal;
static bool has_color, is_on;
static enum theme now_theme;

/* ---- styles ---------------------------------------------------------------------------------------------------------- */

enum { PAIR_OK = 1, PAIR_WARN, PAIR_CRIT };

static const struct {
    short ok, warn, crit;
    attr_t more_warn, more_crit;
} PALETTES[THEME_COUNT] = {
    [THEME_DEFAULT] = {COLOR_GREEN, COLOR_YELLOW, COLOR_RED, 0, A_BOLD},
    [THEME_LIGHT] = {COLOR_GREEN, COLOR_MAGENTA, COLOR_RED, A_BOLD, A_BOLD},
    [THEME_CONTRAST] = {COLOR_GREEN, COLOR_YELLOW, COLOR_RED, A_BOLD, A_BOLD | A_REVERSE},
    [THEME_CB] = {COLOR_BLUE, COLOR_YELLOW, COLOR_YELLOW, 0, A_BOLD | A_REVERSE},
    [THEME_MONO] = {-1, -1, -1, A_BOLD, A_REVERSE},
};

static attr_t mono_attributes(unsigned style)
{
    switch (style) {
    case STYLE_WARN:
    case STYLE_BOLD:
    case STYLE_HEAD:
        return A_BOLD;
    case STYLE_CRIT:
    case STYLE_BAR:
        return A_REVERSE;
    case STYLE_STALE:
        return A_UNDERLINE | A_DIM;
    default:
        return A_NORMAL;
    }
}

static attr_t attributes(unsigned style)
{
    unsigned base = style & 0x1f;
    attr_t a = mono_attributes(base);

    if (has_color && now_theme != THEME_MONO) {
        if (base == STYLE_OK)
            a = (attr_t)COLOR_PAIR(PAIR_OK);
        else if (base == STYLE_WARN)
            a = (attr_t)COLOR_PAIR(PAIR_WARN) | PALETTES[now_theme].more_warn;
        else if (base == STYLE_CRIT)
            a = (attr_t)COLOR_PAIR(PAIR_CRIT) | PALETTES[now_theme].more_crit;
        else if (base == STYLE_STALE)
            a = A_DIM;
    }
    if (style & STYLE_DIM)
        a |= A_DIM;
    if (style & STYLE_SELECTED)
        a |= A_REVERSE | (has_color && now_theme != THEME_MONO ? 0 : A_BOLD);
    return a;
}

void terminal_theme(enum theme theme)
{
    now_theme = theme;
    if (!has_color)
        return;
    (void)init_pair(PAIR_OK, PALETTES[theme].ok, -1);
    (void)init_pair(PAIR_WARN, PALETTES[theme].warn, -1);
    (void)init_pair(PAIR_CRIT, PALETTES[theme].crit, -1);
    terminal_repaint();
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

/* Ctrl-S would hold what is drawn until Ctrl-Q comes, which looks like a program that hangs. */
static void free_control_s(void)
{
    struct termios t;

    if (tcgetattr(STDIN_FILENO, &t))
        return;
    t.c_iflag &= ~(tcflag_t)IXON;
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &t);
    (void)def_prog_mode();
}

bool terminal_start(enum theme theme, bool is_mono, struct err *err)
{
    const char *name = getenv("TERM");

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        (void)err_set(err, ERR_CONFIG, "this is no terminal; 'aigwtop -b' prints without one");
        return false;
    }
    /* The terminal's own size counts, not what some shell exported of another one. */
    (void)unsetenv("COLUMNS");
    (void)unsetenv("LINES");
    /* Escape stands alone; what follows it at once belongs to a key. */
    (void)set_escdelay(25);
    terminal = newterm(NULL, stdout, stdin);
    if (!terminal) {
        (void)err_set(err, ERR_CONFIG, "nothing is known of the terminal '%s' (TERM)", name ? name : "");
        return false;
    }
    (void)set_term(terminal);
    if (!cursor_address) {
        (void)endwin();
        delscreen(terminal);
        (void)err_set(err, ERR_CONFIG,
                      "the terminal '%s' (TERM) cannot move its cursor; 'aigwtop -b' prints without one",
                      name ? name : "");
        return false;
    }
    is_on = true;
    (void)cbreak();
    (void)noecho();
    (void)nonl();
    free_control_s();
    (void)keypad(stdscr, TRUE);
    (void)nodelay(stdscr, TRUE);
    (void)curs_set(0);
    has_color = !is_mono && has_colors() && start_color() == OK && use_default_colors() == OK;
    terminal_theme(theme);
    return true;
}

void terminal_stop(void)
{
    if (!is_on)
        return;
    is_on = false;
    terminal_mouse(false);
    (void)curs_set(1);
    if (!exit_ca_mode) { /* nothing comes back from below, so what stands here would be written over */
        (void)erase();
        (void)refresh();
    }
    (void)endwin();
    delscreen(terminal);
    terminal = NULL;
}

void terminal_size(unsigned *w, unsigned *h)
{
    *w = COLS > 0 ? (unsigned)COLS : 1;
    *h = LINES > 0 ? (unsigned)LINES : 1;
}

void terminal_repaint(void)
{
    if (is_on)
        (void)clearok(curscr, TRUE);
}

void terminal_mouse(bool on)
{
    (void)mousemask(on ? BUTTON1_CLICKED | BUTTON1_PRESSED | BUTTON4_PRESSED | BUTTON5_PRESSED : 0, NULL);
    (void)mouseinterval(0);
}

/* ---- painting -------------------------------------------------------------------------------------------------------- */

static void paint_row(const struct screen *s, unsigned y)
{
    const struct cell *row = &s->cells[(size_t)y * s->w];
    wchar_t text[512];
    unsigned x = 0;

    while (x < s->w) {
        unsigned from = x;
        int n = 0;

        while (x < s->w && row[x].style == row[from].style && n < 511) {
            if (row[x].code) /* the right half of a wide one has none */
                text[n++] = (wchar_t)row[x].code;
            x++;
        }
        (void)attrset((int)attributes(row[from].style));
        (void)mvaddnwstr((int)y, (int)from, text, n);
    }
}

void terminal_paint(const struct screen *s)
{
    (void)attrset(A_NORMAL);
    for (unsigned y = 0; y < s->h; y++)
        paint_row(s, y);
    (void)refresh();
}

/* ---- keys ------------------------------------------------------------------------------------------------------------ */

static const struct {
    int code;
    const char *name;
} NAMED[] = {
    {KEY_UP, "Up"},       {KEY_DOWN, "Down"},  {KEY_LEFT, "Left"},    {KEY_RIGHT, "Right"},
    {KEY_PPAGE, "PgUp"},  {KEY_NPAGE, "PgDn"}, {KEY_HOME, "Home"},    {KEY_END, "End"},
    {KEY_ENTER, "Enter"}, {KEY_BTAB, "BTab"},  {KEY_BACKSPACE, "BS"}, {KEY_DC, "BS"},
};

static void name_function(struct terminal_key *k, int code)
{
    for (size_t i = 0; i < sizeof(NAMED) / sizeof(NAMED[0]); i++)
        if (NAMED[i].code == code) {
            (void)snprintf(k->name, sizeof(k->name), "%s", NAMED[i].name);
            return;
        }
    if (code >= KEY_F(1) && code <= KEY_F(12))
        (void)snprintf(k->name, sizeof(k->name), "F%d", code - KEY_F0);
    else
        k->kind = KEY_IS_UNKNOWN;
}

static void name_character(struct terminal_key *k, wint_t c)
{
    if (c == '\r' || c == '\n')
        (void)snprintf(k->name, sizeof(k->name), "Enter");
    else if (c == 27)
        (void)snprintf(k->name, sizeof(k->name), "Esc");
    else if (c == '\t')
        (void)snprintf(k->name, sizeof(k->name), "Tab");
    else if (c == ' ')
        (void)snprintf(k->name, sizeof(k->name), "Space");
    else if (c == 127 || c == 8)
        (void)snprintf(k->name, sizeof(k->name), "BS");
    else if (c < 32)
        (void)snprintf(k->name, sizeof(k->name), "^%c", (int)c + 64);
    else if (c < 0x80)
        (void)snprintf(k->name, sizeof(k->name), "%c", (int)c);
    else
        (void)snprintf(k->name, sizeof(k->name), "%lc", c);
}

static bool take_mouse(struct terminal_key *k)
{
    MEVENT ev;

    if (getmouse(&ev) != OK)
        return false;
    k->kind = KEY_IS_MOUSE;
    k->x = (unsigned)ev.x;
    k->y = (unsigned)ev.y;
    k->wheel = ev.bstate & BUTTON4_PRESSED ? -1 : ev.bstate & BUTTON5_PRESSED ? 1 : 0;
    return true;
}

/* What begins with Escape and is no key that curses knows, such as Ctrl-Left on a plain terminal, would be taken for Escape, which
 * may leave. True when such a sequence followed at once; it is gone then. */
static bool swallow_sequence(void)
{
    wint_t c;
    unsigned n = 0;

    if (get_wch(&c) != OK)
        return false;
    if (c != '[' && c != 'O') {
        (void)unget_wch((wchar_t)c);
        return false;
    }
    while (n++ < SEQUENCE_MAX && get_wch(&c) == OK && !(c >= '@' && c <= '~'))
        ;
    return true;
}

struct terminal_key terminal_key(void)
{
    struct terminal_key k = {.kind = KEY_IS_KEY};
    wint_t c;
    int what = get_wch(&c);

    if (what == ERR)
        k.kind = KEY_IS_NONE;
    else if (what == KEY_CODE_YES && c == KEY_RESIZE)
        k.kind = KEY_IS_RESIZE;
    else if (what == KEY_CODE_YES && c == KEY_MOUSE)
        k.kind = take_mouse(&k) ? KEY_IS_MOUSE : KEY_IS_UNKNOWN;
    else if (what == KEY_CODE_YES)
        name_function(&k, (int)c);
    else if (c == 27 && swallow_sequence())
        k.kind = KEY_IS_UNKNOWN;
    else
        name_character(&k, c);
    return k;
}

/* ---- the clipboard --------------------------------------------------------------------------------------------------- */

void terminal_copy(const char *text)
{
    static const char SET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buf clean AUTO(buf_release) = {0}, out AUTO(buf_release) = {0};
    struct span in;

    /* What is pasted into a shell is typed there: a name must not hold a key. */
    for (const char *z = text; *z; z++) {
        size_t n = term_control(span_of(z));

        buf_addc(&clean, n ? '?' : *z);
        z += n > 1 ? n - 1 : 0;
    }
    in = buf_span(&clean);
    buf_addz(&out, "\033]52;c;");
    for (size_t i = 0; i < in.len; i += 3) {
        unsigned v = (unsigned)(unsigned char)in.p[i] << 16;

        v |= i + 1 < in.len ? (unsigned)(unsigned char)in.p[i + 1] << 8 : 0;
        v |= i + 2 < in.len ? (unsigned)(unsigned char)in.p[i + 2] : 0;
        buf_addc(&out, SET[v >> 18]);
        buf_addc(&out, SET[v >> 12 & 63]);
        buf_addc(&out, i + 1 < in.len ? SET[v >> 6 & 63] : '=');
        buf_addc(&out, i + 2 < in.len ? SET[v & 63] : '=');
    }
    buf_addc(&out, '\a');
    (void)!write(STDOUT_FILENO, out.p, out.len);
}
