SUMMARY = "inspectd, and what it needs on every board"
DESCRIPTION = "The program with certificates for brokers with TLS; -try adds the example configuration and the small \
model. Kinds of cameras that not everyone has are groups, and recipes, of their own: what is not wanted is not built."
SECTION = "base"
LICENSE = "Apache-2.0"

inherit packagegroup

PACKAGES = "${PN} ${PN}-try"

RDEPENDS:${PN} = "ca-certificates inspectd tzdata"
RDEPENDS:${PN}-try = "inspectd-builtin-model inspectd-examples"
