PACKAGES += "${PN}-genicam ${PN}-libcamera"

SUMMARY:${PN}-genicam = "Cameras of GigE Vision and USB3 Vision"
RDEPENDS:${PN}-genicam = "aravis"

SUMMARY:${PN}-libcamera = "Cameras at the connector of a Raspberry Pi and other boards that libcamera drives"
# libcamera-gst is only built with PACKAGECONFIG:append:pn-libcamera = " gst".
RDEPENDS:${PN}-libcamera = "libcamera libcamera-gst"
