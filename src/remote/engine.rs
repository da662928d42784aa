//! One engine: asked by several threads at once, left alone while it fails.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answered::{AnsweredBy, RemoteTimings};
use super::breaker::{Admitted, Breaker, Change};
use super::client::{Client, Response200};
use super::confidence;
use super::failure::{Failure, Why};
use super::options::EngineOptions;
use super::reply::{self, Said};
use super::request::{self, Request};
use crate::vlm::answer::{Answer, StopReason, Timings, TokenCounts};
use crate::vlm::grammar::GrammarError;
use crate::vlm::grammar::answer::AnswerSpec;
use crate::vlm::grammar::reread::Reader;
use crate::vlm::sampler::Sampling;

/// Least time in which an engine could have answered. A question that had less tells nothing about it.
const FAIR: Duration = Duration::from_secs(1);

/// From a failed try to the next one, where the server says nothing about it.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest pause that a server may ask for and a question waits for.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Time that must be left for a second try beside what is waited for.
const TRY_MIN: Duration = Duration::from_millis(200);

/// Time, for the back-off of engines; tests turn it.
pub trait Pace: Send + Sync {
    /// The present moment.
    fn now(&self) -> Instant;
    /// Waits.
    fn sleep(&self, time: Duration);
}

/// The machine's time.
pub struct RealPace;

impl Pace for RealPace {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Hears when an engine is left alone (with the last failure) and when it answers again.
pub type Tell = Box<dyn Fn(&str, Result<(), (&Failure, Duration)>) + Send + Sync>;

/// A server that answers questions.
pub struct Engine {
    options: EngineOptions,
    client: Client,
    breaker: Mutex<Breaker>,
    pace: Box<dyn Pace>,
    tell: Tell,
}

/// A question, prepared once.
pub struct Question {
    /// Its name.
    pub name: String,
    /// Instructions before everything else.
    pub system: String,
    /// Text-only examples.
    pub examples: Vec<(String, String)>,
    /// The question, with `<image>` where pictures stand, or without.
    pub text: String,
    /// How tokens are chosen.
    pub sampling: Sampling,
    schema: serde_json::Value,
    reader: Reader,
}

/// What became of a question.
pub struct Told {
    /// The request's body, with digests in the places of pictures.
    pub prompt: String,
    /// The answer, checked, or why there is none.
    pub answer: Result<Answer, Failure>,
    /// Who was asked.
    pub by: AnsweredBy,
}

impl Question {
    /// A question whose answers are those of `spec`.
    ///
    /// # Errors
    /// The answer's language has no automaton.
    pub fn new(name: &str, spec: &AnswerSpec) -> Result<Question, GrammarError> {
        Ok(Question {
            name: name.to_owned(),
            system: String::new(),
            examples: Vec::new(),
            text: String::new(),
            sampling: Sampling::default(),
            schema: spec.schema(),
            reader: Reader::new(spec)?,
        })
    }

    /// The answer in the body of a good response, held against the question's language; `by` is told what the server
    /// says of itself. `is_score`: the body is Azure ML's own form.
    ///
    /// # Errors
    /// What is no answer to this question.
    pub fn read(
        &self,
        body: &[u8],
        is_score: bool,
        by: &mut AnsweredBy,
    ) -> Result<Answer, Failure> {
        let Said { content, tokens, model, system_fingerprint, usage } =
            reply::read(body, is_score)?;
        (by.model, by.system_fingerprint) = (model, system_fingerprint);
        let fields = self.reader.read(&content).map_err(|why| {
            let name = &self.name;
            let why = reply::clean(&why.to_string());
            Failure::new(Why::OffSchema, format!("its answer to \"{name}\" is off schema: {why}"))
        })?;
        let rated = tokens.as_deref().and_then(|tokens| confidence::of(&content, &fields, tokens));
        by.is_unrated = rated.is_none();
        Ok(Answer {
            text: content,
            fields: rated.unwrap_or_default(),
            stop: StopReason::Complete,
            tokens: TokenCounts {
                prompt: usage.prompt_tokens,
                generated: usage.completion_tokens,
                ..TokenCounts::default()
            },
            timings: Timings::default(),
        })
    }
}

impl Engine {
    /// An engine by the machine's time. Nothing is opened yet.
    ///
    /// # Errors
    /// Certificates that cannot be used, in words for a person.
    pub fn new(options: &EngineOptions, tell: Tell) -> Result<Engine, String> {
        Engine::with_pace(options, tell, Box::new(RealPace))
    }

    /// The same by another time.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_pace(
        options: &EngineOptions,
        tell: Tell,
        pace: Box<dyn Pace>,
    ) -> Result<Engine, String> {
        Ok(Engine {
            client: Client::new(options)?,
            breaker: Mutex::new(Breaker::new(options.breaker)),
            options: options.clone(),
            pace,
            tell,
        })
    }

    /// What is known of it.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Whether it is asked as usual.
    pub fn is_closed(&self) -> bool {
        self.breaker().is_closed()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Puts `question` about `pictures` (PNG files), and gives up at `deadline`. Never fails otherwise
    /// than in [`Told::answer`].
    pub fn ask(&self, question: &Question, pictures: &[Vec<u8>], deadline: Instant) -> Told {
        let started = Instant::now();
        let asking = request::Asking {
            name: &question.name,
            system: &question.system,
            examples: &question.examples,
            text: &question.text,
            pictures,
            schema: &question.schema,
            sampling: &question.sampling,
        };
        let request = Request::new(&self.options, &asking);
        let mut by = AnsweredBy {
            engine: self.options.name.clone(),
            kind: self.options.kind.as_str().to_owned(),
            origin: self.options.endpoint.origin().to_owned(),
            model_asked: self.options.model.clone(),
            request_sha256: Some(request.sha256.clone()),
            timings: RemoteTimings { encode_ms: ms(started.elapsed()), ..RemoteTimings::default() },
            ..AnsweredBy::default()
        };
        let answer = self.try_twice(&request, deadline, &mut by);
        let answer = answer.and_then(|response| self.read(question, &response, &mut by));
        if by.attempts == 0 {
            // What was not sent is no request.
            by.request_sha256 = None;
        }
        let named = |failure: Failure| Failure {
            text: format!("Engine \"{}\": {}.", self.options.name, failure.text),
            ..failure
        };
        Told { prompt: request.told, answer: answer.map_err(named), by }
    }

    /// One try, and one more where that may help and the deadline leaves time for it.
    fn try_twice(
        &self,
        request: &Request,
        deadline: Instant,
        by: &mut AnsweredBy,
    ) -> Result<Response200, Failure> {
        let first = match self.try_once(request, deadline, by) {
            Err(failure) if failure.why.may_pass() => failure,
            told => return told,
        };
        let pause = first.rest.unwrap_or(PAUSE);
        let left = deadline.saturating_duration_since(Instant::now());
        // A server that named a time is open to questions after it, unless it fails for good.
        let is_open = self.is_closed() || first.rest.is_some_and(|rest| rest <= PAUSE_MAX);
        if left < pause.saturating_add(TRY_MIN) || !is_open {
            return Err(first);
        }
        self.pace.sleep(pause);
        match self.try_once(request, deadline, by) {
            // Then the first failure tells more.
            Err(second) if second.why == Why::Resting => Err(first),
            told => told,
        }
    }

    fn try_once(
        &self,
        request: &Request,
        deadline: Instant,
        by: &mut AnsweredBy,
    ) -> Result<Response200, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::new(Why::NoTime, "not asked: the deadline had passed"));
        }
        let admitted = self.breaker().admit(self.pace.now());
        if let Admitted::Wait(rest) = admitted {
            let text = match rest.is_zero() {
                true => "not asked: it failed, and another question tries it".to_owned(),
                false => {
                    format!("not asked: it failed, and rests for {:.1} s more", rest.as_secs_f64())
                }
            };
            return Err(Failure::new(Why::Resting, text));
        }
        let timeout = left.min(self.options.timeout);
        by.attempts += 1;
        let started = Instant::now();
        let told = self.client.post(&request.body, timeout);
        by.timings.total_ms = ms(started.elapsed());
        let told = match told {
            Ok(response) => {
                by.status = Some(200);
                by.response_sha256 = Some(request::sha256(&response.body));
                by.timings.first_byte_ms = ms(response.first_byte);
                by.timings.total_ms = ms(response.total);
                // A server that answers with what is no answer fails like one that does not.
                reply::read(&response.body, self.options.endpoint.is_score())
                    .map(|_| ())
                    .or_else(|failure| match failure.why {
                        Why::NotOfInterface => Err(failure),
                        _ => Ok(()),
                    })
                    .map(|()| response)
            }
            Err((failure, status)) => {
                by.status = status;
                Err(failure)
            }
        };
        self.learn(admitted, told.as_ref().err(), timeout);
        told
    }

    /// Tells the breaker how it went.
    fn learn(&self, admitted: Admitted, failure: Option<&Failure>, timeout: Duration) {
        let had_time = timeout >= FAIR.min(self.options.timeout);
        let change = match failure {
            Some(failure) if failure.why == Why::Timeout && !had_time => {
                if admitted == Admitted::Try {
                    self.breaker().forget();
                }
                None
            }
            Some(failure) if failure.why.counts() => {
                self.breaker().fail(self.pace.now(), failure.rest)
            }
            _ => self.breaker().succeed(),
        };
        match (change, failure) {
            (Some(Change::Opened(rest)), Some(failure)) => {
                (self.tell)(&self.options.name, Err((failure, rest)));
            }
            (Some(Change::Closed), _) => (self.tell)(&self.options.name, Ok(())),
            _ => {}
        }
    }

    /// The answer in a response, held against the question's language.
    fn read(
        &self,
        question: &Question,
        response: &Response200,
        by: &mut AnsweredBy,
    ) -> Result<Answer, Failure> {
        question.read(&response.body, self.options.endpoint.is_score(), by)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ms(time: Duration) -> f64 {
    // A microsecond is as fine as any reader needs, and keeps records short.
    (time.as_secs_f64() * 1e6).round() / 1e3
}
