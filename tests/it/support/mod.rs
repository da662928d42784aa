//! What several subjects share: brokers, sites, servers.

pub mod adapters;
pub mod certificates;
pub mod delivery;
pub mod edge;
pub mod host_application;
pub mod hub;
pub mod mosquitto;
pub mod records;
#[cfg(feature = "gst")]
pub mod rtsp;
pub mod station;
pub mod tap;
pub mod wide_model;
