//! `[engines.NAME]` of `inspectd.toml`: engines elsewhere that stations may ask.

use std::time::Duration;

use toml::Spanned;

use super::reader::Reader;
use super::report::Place;
use super::secret;
use super::words::choices;
use super::{Problem, Settings};
use crate::remote::{Address, AddressError, AnswerForm, Endpoint, EngineOptions, KeyHeader, Kind};
use crate::station::Station;

/// Most engines of one device.
const ENGINES_MAX: usize = 16;

/// Reads all tables `[engines.NAME]`.
pub fn read(top: &mut Reader<'_>) -> Vec<EngineOptions> {
    let tables = top.named_tables("engines", ENGINES_MAX);
    tables.into_iter().filter_map(|(name, table)| read_one(&name, table)).collect()
}

fn read_one(name: &Spanned<String>, mut table: Reader<'_>) -> Option<EngineOptions> {
    table.check_name("engines", name);
    let kind = table.one_of("kind", &[("openai", Kind::OpenAi), ("azure-ml", Kind::AzureMl)]);
    let kind = table.required("kind", kind, "kind = \"openai\"  or  kind = \"azure-ml\"");
    let url = table.text("url", Address::MAX_CHARS);
    let url = table.required("url", url, "url = \"http://192.168.1.40:8000/v1\"");
    let api_version = table.text("api_version", 40);
    let endpoint = url.as_ref().zip(kind.as_ref()).and_then(|(url, kind)| {
        let version = api_version.as_ref().map(|version| version.get_ref().as_str());
        let parsed = Endpoint::parse(*kind.get_ref(), url.get_ref(), version);
        let note = |why: AddressError| {
            // Not the address itself: it may hold what nobody should read.
            let title = format!("`url` of the engine \"{}\" cannot be used: {why}", name.get_ref());
            table.error(url.span(), title, "write  url = \"https://HOST:PORT/v1\"");
        };
        parsed.map_err(note).ok()
    });
    // Whatever follows is read in any case, so that no key of it is called unknown.
    let place = || Endpoint::parse(Kind::OpenAi, "http://localhost", None).expect("an address");
    let is_good = endpoint.is_some();
    let word = kind.map_or(Kind::OpenAi, |kind| kind.into_inner());
    let endpoint = endpoint.unwrap_or_else(place);
    let mut options = EngineOptions::new(name.get_ref(), word, endpoint);
    options.model = table.text("model", 256).map(Spanned::into_inner);
    if word == Kind::OpenAi && is_good {
        let line = "model = \"Qwen/Qwen2-VL-7B-Instruct\"";
        table.required("model", options.model.as_ref(), line);
    }
    read_azure(&mut table, &mut options);
    read_key(&mut table, &mut options);
    read_answer(&mut table, &mut options);
    read_pace(&mut table, &mut options);
    table.finish();
    is_good.then_some(options)
}

/// What Azure ML alone knows.
fn read_azure(table: &mut Reader<'_>, options: &mut EngineOptions) {
    let deployment = table.text("deployment", 64);
    let keys = ["deployment", "api_version"];
    if options.kind != Kind::AzureMl
        && let Some(key) = keys.iter().find(|key| table.has(key))
    {
        let title = format!("`{key}` is for engines of kind = \"azure-ml\"");
        table.error(table.key_span(key), title, "remove it, or correct `kind`");
    }
    if let Some(text) = &deployment
        && table.check_name("deployment", text)
    {
        options.deployment = deployment.map(Spanned::into_inner);
    }
}

fn read_key(table: &mut Reader<'_>, options: &mut EngineOptions) {
    options.key = secret::read(table, &secret::KEY);
    let words = [("bearer", KeyHeader::Bearer), ("api-key", KeyHeader::ApiKey)];
    if let Some(header) = table.one_of("key_header", &words) {
        options.key_header = header.into_inner();
    }
    let address = options.endpoint.address();
    if options.key.is_some() && !address.is_encrypted() && !address.is_loopback() {
        let title = format!("the key of {} crosses the network unencrypted", table.name());
        let remedy = "serve the engine over TLS and write  url = \"https://…\"  and  ca_file = \"plant-ca.pem\"";
        table.warn(table.key_span("url"), title, remedy);
    }
    if let Some(file) = table.path("ca_file") {
        if !address.is_encrypted() {
            let title = "`ca_file` has no effect without TLS";
            table.error(file.span(), title, "write  url = \"https://…\", or remove it");
        } else if let Err(why) = crate::remote::check_ca(file.get_ref()) {
            table.error(file.span(), why, "put the authority's certificate there as PEM");
        }
        options.ca_file = Some(file.into_inner());
    }
}

fn read_answer(table: &mut Reader<'_>, options: &mut EngineOptions) {
    let words = [
        ("json_schema", AnswerForm::JsonSchema),
        ("json_object", AnswerForm::JsonObject),
        ("prompt", AnswerForm::Prompt),
    ];
    if let Some(form) = table.one_of("answer_form", &words) {
        options.form = form.into_inner();
    }
    if let Some(flag) = table.flag("logprobs") {
        options.logprobs = flag.into_inner();
    }
    if let Some(kib) = table.whole("max_response_kib", 16..=65_536) {
        options.max_response_bytes = (kib.into_inner() as u64) << 10;
    }
}

fn read_pace(table: &mut Reader<'_>, options: &mut EngineOptions) {
    let seconds = |table: &mut Reader<'_>, key, target: &mut Duration| {
        if let Some(found) = table.number(key, 0.05..=3600.0) {
            *target = Duration::from_secs_f64(found.into_inner());
        }
    };
    seconds(table, "timeout_s", &mut options.timeout);
    seconds(table, "connect_timeout_s", &mut options.connect_timeout);
    seconds(table, "breaker_open_s", &mut options.breaker.open_min);
    seconds(table, "breaker_open_max_s", &mut options.breaker.open_max);
    if let Some(count) = table.whole("breaker_failures", 1..=1000) {
        options.breaker.failures = count.into_inner() as u32;
    }
    if options.breaker.open_min > options.breaker.open_max {
        let title = "`breaker_open_s` is above `breaker_open_max_s`";
        let remedy = "raise `breaker_open_max_s` (default 60) or lower `breaker_open_s`";
        table.error(table.key_span("breaker_open_s"), title, remedy);
    }
    if let Some(count) = table.whole("parallel", 1..=64) {
        options.parallel = count.into_inner() as usize;
    }
}

/// Holds the engines that stations name against those that there are, and `[model]` against who needs it.
/// `named`: each station's name for its engine, where it stands.
pub fn check(
    settings: &Settings,
    stations: &[Station],
    named: &[(String, Place)],
    problems: &mut Vec<Problem>,
) {
    let known: Vec<&str> = settings.engines.iter().map(|engine| engine.name.as_str()).collect();
    for (name, place) in named.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let remedy = match known.is_empty() {
            true => format!("add to inspectd.toml  [engines.{name}]  with `kind` and `url`"),
            false => choices(name, &known, '"'),
        };
        let title = format!("there is no engine \"{name}\"");
        problems.push(Problem::error(title).at(place.clone()).remedy(remedy));
    }
    let is_used = |engine: &&EngineOptions| named.iter().any(|(name, _)| *name == engine.name);
    // Where a station could not be read nobody knows what it names.
    let is_whole = !problems.iter().any(|one| one.severity() == super::Severity::Error);
    for engine in settings.engines.iter().filter(|engine| is_whole && !is_used(engine)) {
        let title = format!("no station asks the engine \"{}\"", engine.name);
        let remedy =
            format!("add  engine = \"{}\"  to a station's file, or remove it", engine.name);
        problems.push(Problem::warning(title).remedy(remedy));
    }
    if settings.model.is_none() {
        for station in stations.iter().filter(|station| station.needs_model()) {
            let title =
                format!("station \"{}\" needs a model, and there is no [model]", station.name);
            let remedy = "add  [model]  and  path = \"…\"  to inspectd.toml, or name an engine elsewhere \
                          without  fallback = \"local\"";
            problems.push(Problem::error(title).remedy(remedy));
        }
    }
}
