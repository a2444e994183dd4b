# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where, below the prefix; DESTDIR is honoured. Three components, which are the Debian packages:
#   gatewayd             the daemon, its unit, its user, its page
#   gatewayd-tools       aigwctl and aigwtop, completions, pages, the hourly roll-up by cron or timer
#   gatewayd-dashboards  dashboards, rules, configuration of Prometheus, Alertmanager and Grafana, docker-compose.yml
#
# Units and the cron line name programs by their whole path, and are written for the prefix of the installation. What belongs to
# /etc goes there for the prefix /usr, else to etc/ below the prefix; no configuration is installed, and none is overwritten.
include(GNUInstallDirs)

install(TARGETS gatewayd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT gatewayd)
install(TARGETS aigwctl aigwtop RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT gatewayd-tools)
install(FILES man/gatewayd.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8 COMPONENT gatewayd)
install(FILES man/aigwctl.1 man/aigwtop.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT gatewayd-tools)

install(FILES completions/aigwctl.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME aigwctl
  COMPONENT gatewayd-tools)
install(FILES completions/aigwctl.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT gatewayd-tools)

install(DIRECTORY dashboards DESTINATION ${CMAKE_INSTALL_DATADIR}/gatewayd COMPONENT gatewayd-dashboards
  FILES_MATCHING PATTERN "*.json")
install(DIRECTORY deploy/prometheus deploy/alertmanager deploy/grafana DESTINATION ${CMAKE_INSTALL_DATADIR}/gatewayd
  COMPONENT gatewayd-dashboards)
install(FILES deploy/docker-compose.yml deploy/Dockerfile deploy/gatewayd.yaml deploy/README.md
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT gatewayd-dashboards)
foreach(component gatewayd gatewayd-tools gatewayd-dashboards)
  install(FILES LICENSE RENAME copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${component} COMPONENT ${component})
endforeach()
install(FILES CHANGELOG.md docs/alerts.md docs/metrics.md docs/configuration.md docs/api.md docs/operations.md
  DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT gatewayd)

# What depends on the prefix of `cmake --install --prefix`, which is known when it runs. The zsh of a distribution looks into
# vendor-completions, one in /usr/local into site-functions.
function(install_for_prefix component code)
  install(CODE "
    set(source \"${CMAKE_CURRENT_SOURCE_DIR}\")
    set(work \"${CMAKE_CURRENT_BINARY_DIR}/install\")
    if(CMAKE_INSTALL_PREFIX MATCHES \"^/usr/?$\")
      set(etc /etc)
      set(zsh vendor-completions)
    else()
      set(etc \"\${CMAKE_INSTALL_PREFIX}/etc\")
      set(zsh site-functions)
    endif()
    function(place from to)
      file(READ \"\${source}/deploy/\${from}\" text)
      string(REPLACE \"/usr/bin/\" \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/\" text \"\${text}\")
      string(REPLACE \"PATH=\" \"PATH=\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}:\" text \"\${text}\")
      get_filename_component(name \"\${to}\" NAME)
      get_filename_component(folder \"\${to}\" DIRECTORY)
      file(WRITE \"\${work}/\${name}\" \"\${text}\")
      file(INSTALL \"\${work}/\${name}\" DESTINATION \"\${folder}\")
    endfunction()
    ${code}" COMPONENT ${component})
endfunction()

install_for_prefix(gatewayd [[
    place(systemd/gatewayd.service "${CMAKE_INSTALL_PREFIX}/lib/systemd/system/gatewayd.service")
    place(systemd/gatewayd.sysusers "${CMAKE_INSTALL_PREFIX}/lib/sysusers.d/gatewayd.conf")]])
install_for_prefix(gatewayd-tools [[
    place(systemd/gatewayd-aggregate.service "${CMAKE_INSTALL_PREFIX}/lib/systemd/system/gatewayd-aggregate.service")
    place(systemd/gatewayd-aggregate.timer "${CMAKE_INSTALL_PREFIX}/lib/systemd/system/gatewayd-aggregate.timer")
    place(cron/gatewayd-tools "${etc}/cron.d/gatewayd-tools")
    file(INSTALL "${source}/completions/_aigwctl" DESTINATION "${CMAKE_INSTALL_PREFIX}/share/zsh/${zsh}")]])

# ---- Debian packages: `./dev package` -------------------------------------------------------------------------------------
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME gatewayd)
set(CPACK_PACKAGE_CONTACT "gatewayd maintainers <gatewayd@example.com>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "AI gateway that an operator runs from a terminal")
set(CPACK_SET_DESTDIR ON) # absolute places such as /etc/cron.d belong into the packages, too
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL gatewayd gatewayd-tools gatewayd-dashboards)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_GATEWAYD_PACKAGE_NAME gatewayd)
set(CPACK_DEBIAN_GATEWAYD-TOOLS_PACKAGE_NAME gatewayd-tools)
set(CPACK_DEBIAN_GATEWAYD-DASHBOARDS_PACKAGE_NAME gatewayd-dashboards)
set(CPACK_COMPONENT_GATEWAYD_DESCRIPTION "AI gateway: daemon\n Authenticates tenants, holds budgets, picks a healthy provider and keeps the books.")
set(CPACK_COMPONENT_GATEWAYD-TOOLS_DESCRIPTION "AI gateway: aigwctl and aigwtop\n Looks at, controls and reports on gateways, here and elsewhere.")
set(CPACK_COMPONENT_GATEWAYD-DASHBOARDS_DESCRIPTION "AI gateway: dashboards and alert rules\n For Grafana, Prometheus and Alertmanager.")
set(CPACK_DEBIAN_GATEWAYD-DASHBOARDS_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_GATEWAYD_PACKAGE_RECOMMENDS gatewayd-tools)
file(GLOB CPACK_DEBIAN_GATEWAYD_PACKAGE_CONTROL_EXTRA deploy/debian/gatewayd/*)
file(GLOB CPACK_DEBIAN_GATEWAYD-TOOLS_PACKAGE_CONTROL_EXTRA deploy/debian/gatewayd-tools/*)
set(CPACK_DEBIAN_GATEWAYD_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_GATEWAYD-TOOLS_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
