//! The hub's side: its list of a repository's files, and a file from a given byte on.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

use super::{FetchError, Options};
use crate::vlm::Digest;

/// Largest list that is read, in bytes.
const LIST_MAX_BYTES: u64 = 16 << 20;
/// Most files of a list that are looked at.
const FILES_MAX: usize = 10_000;

/// What the hub says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its length.
    pub bytes: Option<u64>,
    /// Its SHA-256; the hub knows that of large files only.
    pub digest: Option<Digest>,
    /// It may be absent.
    pub optional: bool,
}

/// The hub's list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// File name -> what is said of it. Empty: the hub gives no lists.
    pub files: BTreeMap<String, Listed>,
    /// The commit that the revision stands for.
    pub commit: Option<String>,
    /// Whether it names all files.
    pub is_complete: bool,
}

/// A hub.
pub struct Hub {
    agent: Agent,
    endpoint: String,
    repo: String,
    revision: String,
}

impl Hub {
    /// The hub of these options. Nothing is opened yet.
    pub fn new(options: &Options) -> Hub {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // From an encrypted address a redirect may not lead to one that is not.
            .https_only(options.endpoint.starts_with("https://"))
            .timeout_resolve(Some(options.silence))
            .timeout_connect(Some(options.silence))
            // For each reading: one for the whole body would cut off every slow line.
            .timeout_per_read(Some(options.silence))
            .timeout_per_write(Some(options.silence))
            .max_redirects(8)
            .accept_encoding("identity")
            .user_agent(concat!("inspectd/", env!("CARGO_PKG_VERSION")))
            .build();
        Hub {
            agent: Agent::new_with_config(config),
            endpoint: options.endpoint.trim_end_matches('/').to_owned(),
            repo: options.repo.clone(),
            revision: options.revision.clone(),
        }
    }

    /// The repository's files. A mirror that serves files only answers 404 to that: then the list is
    /// empty.
    pub fn list(&self) -> Result<Listing, FetchError> {
        let url = format!(
            "{}/api/models/{}/revision/{}?blobs=true",
            self.endpoint, self.repo, self.revision
        );
        let response = self.agent.get(&url).call().map_err(|why| unreachable(&url, &why))?;
        if matches!(response.status().as_u16(), 404 | 405 | 501) {
            return Ok(Listing::default());
        }
        check_status(&url, response.status().as_u16(), 200)?;
        let mut text = String::new();
        let mut body = response.into_body().into_reader().take(LIST_MAX_BYTES);
        body.read_to_string(&mut text)
            .map_err(|why| FetchError::Unreachable { url: url.clone(), why: why.to_string() })?;
        read_listing(&text).map_err(|problem| FetchError::Listing { url, problem })
    }

    /// The address of a file.
    pub fn url(&self, revision: &str, name: &str) -> String {
        // Blanks and percent signs are the only characters of real names that an address cannot have.
        let name =
            name.replace('%', "%25").replace(' ', "%20").replace('#', "%23").replace('?', "%3F");
        format!("{}/{}/resolve/{revision}/{name}", self.endpoint, self.repo)
    }

    /// Asks for `url` from byte `from` on; with `etag`, only if it is still the same file.
    pub fn get(
        &self,
        url: &str,
        from: u64,
        etag: Option<&str>,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
            if let Some(etag) = etag {
                request = request.header("If-Range", etag);
            }
        }
        request.call()
    }
}

/// Why nothing came, without the words of a library where there are better ones.
pub fn unreachable(url: &str, why: &ureq::Error) -> FetchError {
    let why = match why {
        ureq::Error::HostNotFound => "there is no such host, or no network".to_owned(),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        other => other.to_string(),
    };
    FetchError::Unreachable { url: url.to_owned(), why }
}

/// Anything but `expected` is an error with a word on what it means here.
pub fn check_status(url: &str, status: u16, expected: u16) -> Result<(), FetchError> {
    if status == expected {
        return Ok(());
    }
    let why = match status {
        401 | 403 => {
            "no such repository, or not for everybody: fetch it with its publisher's tools"
        }
        404 => "there is no such file, revision or repository",
        429 => "too many requests: call again later, what came is kept",
        500..=599 => "the hub is in trouble: call again later, what came is kept",
        _ => "not an answer that a hub gives",
    };
    Err(FetchError::Status { url: url.to_owned(), status, why })
}

fn read_listing(text: &str) -> Result<Listing, String> {
    let value: Value = serde_json::from_str(text).map_err(|why| format!("is not JSON: {why}"))?;
    let files = value.get("siblings").and_then(Value::as_array).ok_or("has no list `siblings`")?;
    if files.len() > FILES_MAX {
        return Err(format!("lists {} files, too many for a model", files.len()));
    }
    let one = |file: &Value| {
        let name = file.get("rfilename")?.as_str()?.to_owned();
        let large = file.get("lfs");
        let digest = large.and_then(|lfs| Digest::parse(lfs.get("sha256")?.as_str()?));
        let bytes = file.get("size").and_then(Value::as_u64);
        Some((name, Listed { bytes, digest, optional: false }))
    };
    // The commit becomes a part of an address.
    let commit = value.get("sha").and_then(Value::as_str);
    let commit = commit.filter(|sha| sha.len() >= 7 && sha.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(Listing {
        files: files.iter().filter_map(one).collect(),
        commit: commit.map(str::to_owned),
        is_complete: true,
    })
}

/// Waiting time before attempt `number`, counted from 1.
pub fn wait_before(number: u32, first: Duration) -> Duration {
    first.saturating_mul(1 << number.saturating_sub(1).min(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_rubbish_is_refused() {
        let digest = Digest::of(b"x");
        let text = format!(
            r#"{{"sha":"abcdef0123","siblings":[{{"rfilename":"config.json","size":7}},
               {{"rfilename":"m.safetensors","size":9,"lfs":{{"sha256":"{digest}"}}}}, {{}}, 5]}}"#
        );
        let listing = read_listing(&text).unwrap();
        assert_eq!(listing.files["config.json"].bytes, Some(7));
        assert_eq!(listing.files["m.safetensors"].digest, Some(digest));
        assert_eq!((listing.files.len(), listing.commit.as_deref()), (2, Some("abcdef0123")));
        for bad in ["", "{}", "[]", r#"{"siblings":3}"#] {
            assert!(read_listing(bad).is_err(), "{bad}");
        }
        let sha = r#"{"sha":"../../etc","siblings":[]}"#;
        assert_eq!(read_listing(sha).unwrap().commit, None);
    }

    #[test]
    fn the_waiting_grows_and_is_bounded() {
        let first = Duration::from_secs(1);
        assert_eq!(wait_before(1, first), first);
        assert_eq!(wait_before(3, first), 4 * first);
        assert_eq!(wait_before(u32::MAX, first), 32 * first);
    }
}
