# On a Raspberry Pi the service may open what libcamera needs, and GPIO lines by the group that the project's
# drop-in names: a unit with a group that the system lacks does not start.

GROUPADD_PARAM:${PN}:append:rpi = " ; --system gpio"

do_install:append:rpi() {
    install -D -m 0644 ${S}/systemd/drop-ins/raspberry-pi.conf ${D}${systemd_system_unitdir}/inspectd.service.d/10-raspberry-pi.conf
}

PACKAGE_ARCH:rpi = "${MACHINE_ARCH}"
