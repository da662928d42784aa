//! What several subjects share: brokers, sites, servers.
pub mod mosquitto;
pub mod records;
pub mod station;
