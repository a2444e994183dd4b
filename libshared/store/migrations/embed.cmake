# SPDX-License-Identifier: Apache-2.0
# Turns NNNN_name[.sqlite|.postgres][.down].sql into the table MIGRATIONS of db_priv.h. Included by the build, which runs it
# again as a script whenever a file changes. A version without text for a dialect is empty there; each has its way down.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  file(GLOB MIGRATION_SQL CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.sql)
  set(MIGRATIONS_C ${CMAKE_BINARY_DIR}/generated/migrations.c)
  add_custom_command(OUTPUT ${MIGRATIONS_C}
    COMMAND ${CMAKE_COMMAND} -DOUT=${MIGRATIONS_C} -P ${CMAKE_CURRENT_LIST_DIR}/embed.cmake
    DEPENDS ${MIGRATION_SQL} ${CMAKE_CURRENT_LIST_DIR}/embed.cmake)
  return()
endif()

cmake_minimum_required(VERSION 3.25)

# A C literal, one line of text a line.
function(literal text out)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "\n" "\\n\"\n    \"" text "${text}")
  set(${out} "\"${text}\"" PARENT_SCOPE)
endfunction()

# The file of a dialect before the one for both; "" with neither.
function(member stem dialect way out)
  set(text "")
  set(file ${CMAKE_CURRENT_LIST_DIR}/${stem}.${dialect}${way}.sql)
  if(NOT EXISTS ${file})
    set(file ${CMAKE_CURRENT_LIST_DIR}/${stem}${way}.sql)
  endif()
  if(EXISTS ${file})
    file(READ ${file} text)
  endif()
  literal("${text}" text)
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

file(GLOB names RELATIVE ${CMAKE_CURRENT_LIST_DIR} ${CMAKE_CURRENT_LIST_DIR}/*.sql)
list(TRANSFORM names REPLACE "\\.(sqlite|postgres|down|sql).*$" "")
list(REMOVE_DUPLICATES names)
list(SORT names)

set(rows "")
set(expected 0)
foreach(stem ${names})
  math(EXPR expected "${expected} + 1")
  if(NOT stem MATCHES "^0*([1-9][0-9]*)_([a-z0-9_]+)$" OR NOT CMAKE_MATCH_1 EQUAL expected)
    message(FATAL_ERROR "migration '${stem}' should be number ${expected}")
  endif()
  set(version ${CMAKE_MATCH_1})
  set(name ${CMAKE_MATCH_2})
  string(APPEND rows "{.version = ${version}, .name = \"${name}\",\n")
  foreach(dialect sqlite postgres)
    member(${stem} ${dialect} "" up)
    member(${stem} ${dialect} ".down" down)
    if(NOT up STREQUAL "\"\"" AND down STREQUAL "\"\"")
      message(FATAL_ERROR "migration '${stem}' has no way down for ${dialect}")
    endif()
    string(TOUPPER ${dialect} id)
    string(APPEND rows " .up[DB_${id}] =\n    ${up},\n .down[DB_${id}] =\n    ${down},\n")
  endforeach()
  string(APPEND rows "},\n")
endforeach()
file(WRITE ${OUT} "/* Made by libshared/store/migrations/embed.cmake. */
#include \"libshared/store/db_priv.h\"

const struct migration MIGRATIONS[] = {
${rows}};
const unsigned MIGRATIONS_N = ARRAY_LEN(MIGRATIONS);
")
