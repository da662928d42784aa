//! Messages that come in: which are asked for, and who takes them.

use super::transport::Incoming;

/// Takes messages from the delivery task.
///
/// What it asks for is subscribed to at QoS 1 on every connection, before the status says that the
/// device is online. A message may come twice. One that the broker had kept (`retain`) is older than
/// the connection.
pub trait Inbox: Send + Sync + 'static {
    /// The topic filters. Others only after [`super::PublisherHandle::set_stations`].
    fn filters(&self) -> Vec<String>;

    /// Takes one message. Called by the task that delivers results, so it must not wait: it puts the
    /// message into a bounded queue of its own, and if that is full it answers a refusal, which is
    /// sent at once. Later answers go through [`super::PublisherHandle::reply`].
    fn take(&self, message: Incoming) -> Option<Reply>;
}

/// An answer to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where to: the message's `response_topic`, or the topic agreed on.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// The message's `correlation`.
    pub correlation: Option<Vec<u8>>,
    /// The name of the payload's schema.
    pub schema: &'static str,
}
