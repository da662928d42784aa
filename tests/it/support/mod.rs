//! What several subjects share: brokers, sites, servers.

pub mod adapters;
#[cfg(feature = "gst")]
pub mod camera_link;
pub mod certificates;
pub mod chain_log;
pub mod courses;
pub mod degrade;
pub mod delivery;
pub mod edge;
pub mod engine_server;
#[cfg(feature = "fault-points")]
pub mod faulty_link;
pub mod host_application;
pub mod hub;
pub mod mosquitto;
pub mod plc;
pub mod records;
#[cfg(feature = "gst")]
pub mod rtsp;
pub mod service;
pub mod shift;
pub mod station;
pub mod stepped_clock;
pub mod synthetic_camera;
pub mod tap;
pub mod wide_model;
