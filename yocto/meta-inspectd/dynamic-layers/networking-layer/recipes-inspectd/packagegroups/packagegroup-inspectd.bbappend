# A broker on the board itself, for a line that has none.
PACKAGES += "${PN}-broker"

RDEPENDS:${PN}-broker = "mosquitto"
