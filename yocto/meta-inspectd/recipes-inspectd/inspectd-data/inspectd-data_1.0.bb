SUMMARY = "Keeps inspectd's record, evidence and models on a partition of their own"
DESCRIPTION = "Mounts the file system labelled inspectd-data on /var/lib/inspectd. Without it the service does \
not start, so that nothing is recorded on a root file system that the next update replaces."
SECTION = "base"
LICENSE = "Apache-2.0"
# nooelint: oelint.var.licenseremotefile - its files lie beside this recipe
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = " \
    file://10-data.conf \
    file://inspectd-data.tmpfiles \
    file://var-lib-inspectd.mount \
"

S = "${UNPACKDIR}"

inherit allarch systemd features_check

REQUIRED_DISTRO_FEATURES = "systemd"

SYSTEMD_SERVICE:${PN} = "var-lib-inspectd.mount"

do_install() {
    install -D -m 0644 ${UNPACKDIR}/var-lib-inspectd.mount ${D}${systemd_system_unitdir}/var-lib-inspectd.mount
    install -D -m 0644 ${UNPACKDIR}/10-data.conf ${D}${systemd_system_unitdir}/inspectd.service.d/10-data.conf
    install -D -m 0644 ${UNPACKDIR}/inspectd-data.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/inspectd-data.conf
}

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/tmpfiles.d"
RDEPENDS:${PN} = "e2fsprogs-e2fsck"
