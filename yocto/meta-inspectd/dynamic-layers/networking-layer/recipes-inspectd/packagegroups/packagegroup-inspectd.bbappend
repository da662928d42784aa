PACKAGES += "${PN}-broker"

SUMMARY:${PN}-broker = "A broker on the board itself, for a line that has none"
RDEPENDS:${PN}-broker = "mosquitto"
