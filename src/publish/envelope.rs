//! What is put around an outbox row's bytes when they are sent.
//!
//! The bytes of a row are made once and never change (see `store/outbox.rs`). Whether a result is
//! sent late is known only when it is sent. So one member is put before all others, and nothing else:
//!
//! ```text
//! row    {"schema_version":1,…}
//! sent   {"replayed":false,"schema_version":1,…}
//! ```
//!
//! A result that is sent again may differ from its first copy in this member alone. It stands in the
//! payload, not beside it, so that MQTT 3.1.1 carries it too.
//!
//! A thumbnail, which is no part of the result, is the last member of a row. Where it makes the packet
//! longer than the broker takes, it is left out.

/// Bytes that [`seal`] adds at most.
pub const ENVELOPE_BYTES: usize = "\"replayed\":false,".len();

/// `body` as it is sent; `None` if it is no JSON object with a member.
pub fn seal(body: &[u8], replayed: bool) -> Option<Vec<u8>> {
    let members = body.strip_prefix(b"{")?;
    if !members.starts_with(b"\"") {
        return None;
    }
    let word = if replayed { "true" } else { "false" };
    let mut sent = Vec::with_capacity(body.len() + ENVELOPE_BYTES);
    sent.extend_from_slice(b"{\"replayed\":");
    sent.extend_from_slice(word.as_bytes());
    sent.push(b',');
    sent.extend_from_slice(members);
    Some(sent)
}

/// `body` without its thumbnail; `None` if it has none.
pub fn without_thumbnail(body: &[u8]) -> Option<Vec<u8>> {
    // Quotes within texts are escaped, so this stands nowhere but before a member.
    const MEMBER: &[u8] = b",\"thumbnail\":\"";
    let at = body.windows(MEMBER.len()).position(|window| window == MEMBER)?;
    body.ends_with(b"\"}").then(|| [&body[..at], b"}"].concat())
}

/// The row's bytes in what was sent; `None` if [`seal`] did not make it.
pub fn open(sent: &[u8]) -> Option<Vec<u8>> {
    let words = [b"{\"replayed\":true,".as_slice(), b"{\"replayed\":false,"];
    let members = words.iter().find_map(|word| sent.strip_prefix(*word))?;
    Some([b"{", members].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_is_added_and_can_be_taken_away() {
        let body = br#"{"schema_version":1,"serial":"{\"replayed\":true,"}"#;
        for replayed in [true, false] {
            let sent = seal(body, replayed).expect("an object");
            assert!(sent.len() <= body.len() + ENVELOPE_BYTES);
            let value: serde_json::Value = serde_json::from_slice(&sent).expect("JSON");
            assert_eq!(value["replayed"], replayed);
            assert_eq!(value["schema_version"], 1);
            assert_eq!(open(&sent).as_deref(), Some(body.as_slice()));
        }
        for bad in [b"".as_slice(), b"[]", b"{}", b"1 0\0"] {
            assert_eq!(seal(bad, true), None);
        }
        assert_eq!(open(body), None);
    }

    #[test]
    fn a_thumbnail_is_cut_off_and_nothing_else_is() {
        let body = br#"{"text":",\"thumbnail\":\"","thumbnail":"QUJD"}"#;
        let cut = without_thumbnail(body).expect("there is one");
        assert_eq!(cut, br#"{"text":",\"thumbnail\":\""}"#);
        assert_eq!(without_thumbnail(&cut), None);
    }
}
