//! An address of a server, as a person wrote it and as the program uses it.

use ureq::http::Uri;

/// An address of a server, checked: scheme, host and port, and a path. No name, password or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    origin: String,
    path: String,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub(super) String);

impl Address {
    /// Longest address, in characters.
    pub const MAX_CHARS: usize = 1024;

    /// The address at `url`. Slashes at its end do not count.
    ///
    /// # Errors
    /// What is no address of a server, or holds what does not belong into one: a password, a query.
    pub fn parse(url: &str) -> Result<Address, AddressError> {
        let bad = |why: &str| Err(AddressError(why.to_owned()));
        let Ok(uri) = url.parse::<Uri>() else {
            return bad("it is no address that begins with http:// or https://");
        };
        let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority)) => (scheme, authority),
            _ => return bad("it must begin with http:// or https:// and name a host"),
        };
        if authority.as_str().contains('@') {
            return bad("a name or password in it would stand in logs; use `key_file`");
        }
        if authority.host().is_empty() {
            return bad("it names no host");
        }
        if uri.query().is_some() || url.contains('#') {
            return bad("it must end before `?` and `#`");
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Address { origin: format!("{scheme}://{authority}"), path })
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What stands behind the host and port: empty, or with a slash before it and none behind it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The host, without its port.
    pub fn host(&self) -> &str {
        let authority = self.origin.split_once("://").map_or("", |(_, rest)| rest);
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let custom = if self.is_encrypted() { 443 } else { 80 };
        let port = self.origin.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.unwrap_or(custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "gpu:8000",
            "ftp://gpu/v1",
            "http://",
            "http:///v1",
            "https://u:p@gpu/v1",
            "http://gpu/v1?key=1",
            "http://gpu/v1#x",
            "http://g pu/",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_and_port_are_told() {
        let of = |url| Address::parse(url).expect("an address");
        let told = |url| (of(url).host().to_owned(), of(url).port(), of(url).is_loopback());
        assert_eq!(told("http://gpu:8000/v1"), ("gpu".to_owned(), 8000, false));
        assert_eq!(told("https://10.0.0.7"), ("10.0.0.7".to_owned(), 443, false));
        assert_eq!(told("http://[::1]:11434/v1"), ("[::1]".to_owned(), 11434, true));
        assert_eq!(told("http://127.0.0.1/v1"), ("127.0.0.1".to_owned(), 80, true));
        assert_eq!(of("http://gpu:8000/v1/").path(), "/v1");
    }
}
