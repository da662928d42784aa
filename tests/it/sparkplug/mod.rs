//! Sparkplug over a real broker: the assertions of the specification's test kit that concern an edge
//! node, each a test of its name; what else the edge node promises; and a host library that sees it.

mod assertions;
mod births;
mod data;
mod edge_node;
mod host_application;
mod primary_host;
mod recording;
mod sessions;
