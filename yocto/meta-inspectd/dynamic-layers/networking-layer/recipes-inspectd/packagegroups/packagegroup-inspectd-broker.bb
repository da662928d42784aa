SUMMARY = "A broker on the board itself, for a line that has none"
DESCRIPTION = "It listens to the board alone until it is configured."
SECTION = "base"
LICENSE = "Apache-2.0"

inherit packagegroup

RDEPENDS:${PN} = "mosquitto"
