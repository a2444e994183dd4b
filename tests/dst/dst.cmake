# The books in simulation: a copy of the production sources of its own, with crash points, small segments, and the
# machine's clock, chance and disk replaced (world.c).
file(GLOB DST_SRC CONFIGURE_DEPENDS tests/dst/*.c)
file(GLOB DST_PRODUCT CONFIGURE_DEPENDS
  libshared/base/*.c libshared/catalog/*.c libshared/store/*.c
  libshared/journal/*.c libshared/analytics/hour_lock.c libshared/analytics/sketch.c libshared/json/*.c
  gatewayd/journal/*.c gatewayd/resilience/budget.c gatewayd/resilience/lease.c gatewayd/resilience/ratelimit.c gatewayd/limits/*.c gatewayd/core/arena.c
  gatewayd/telemetry/sink_log.c gatewayd/telemetry/events.c libshared/cli/human.c)
list(FILTER DST_PRODUCT EXCLUDE REGEX "libshared/base/(clock|id)\\.c$|gatewayd/(journal/recorder|limits/limits_follow)\\.c$")
add_executable(dst_books ${DST_SRC} ${DST_PRODUCT} ${MIGRATIONS_C})
target_compile_definitions(dst_books PRIVATE CRASH_POINTS "JOURNAL_SEGMENT=((size_t)1 << 16)")
target_compile_options(dst_books PRIVATE ${BANNED})
target_link_libraries(dst_books PRIVATE flags PkgConfig::CRYPTO PkgConfig::JANSSON PkgConfig::HIREDIS PkgConfig::PQ
  PkgConfig::SQLITE)
target_link_options(dst_books PRIVATE -Wl,--wrap=posix_fallocate,--wrap=posix_fallocate64)
set_target_properties(dst_books PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/dst)

# Under a sanitizer each life costs several times as much. A run with a mutant ends at the first life that sees it.
set(MUTANT_SEEDS 1000)
if(SANITIZE)
  set(DST_SEEDS 100)
else()
  set(DST_SEEDS 1000)
endif()
add_test(NAME dst.books COMMAND dst_books --seeds ${DST_SEEDS} --points)
set_tests_properties(dst.books PROPERTIES TIMEOUT 600 LABELS unit)
foreach(mutant double_settle ack_before_commit skipped_watermark reset_missed window_at_settle)
  add_test(NAME dst.books.sees_${mutant} COMMAND dst_books --seeds ${MUTANT_SEEDS} --mutant ${mutant})
  set_tests_properties(dst.books.sees_${mutant} PROPERTIES TIMEOUT 600 LABELS unit)
endforeach()

# The guards in simulation: the libraries as they are, but for clock and chance (guards.c) and what is driven step by step
# (breaker_share.c …), which are compiled into the scenes.
file(GLOB DST_GUARDS_SRC CONFIGURE_DEPENDS tests/dst/guards/*.c)
add_executable(dst_guards ${DST_GUARDS_SRC} tests/dst/kv_wire.c)
target_compile_options(dst_guards PRIVATE ${BANNED})
target_link_libraries(dst_guards PRIVATE gateway)
set_target_properties(dst_guards PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/dst)
add_test(NAME dst.guards COMMAND dst_guards --seeds ${DST_SEEDS})
set_tests_properties(dst.guards PROPERTIES TIMEOUT 600 LABELS unit)
foreach(mutant counts_4xx extra_probe forced_forgotten deaf_node check_then_act renewed_after_expiry reset_missed
        refilled_in_steps)
  add_test(NAME dst.guards.sees_${mutant} COMMAND dst_guards --seeds ${MUTANT_SEEDS} --mutant ${mutant})
  set_tests_properties(dst.guards.sees_${mutant} PROPERTIES TIMEOUT 600 LABELS unit)
endforeach()
