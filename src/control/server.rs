//! The run's end: a thread that answers.

use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{unbounded, Receiver, Sender};
use serde_json::{json, Value};

use super::{is_local, ControlError, Request, MOST_BYTES};
use crate::acquire::host_time::monotonic_ns;
use crate::pipeline::{ParameterValues, Predictor, RunHandle, RunState, StopCause};

/// How often the thread looks whether the run is over, ms.
const LOOK_MS: i64 = 20;
/// Requests and answers that may wait in the socket, of each client.
const WAITING: i32 = 256;
/// Requests that are looked at before some are answered, those that are answered before more are looked at, and those that may wait in
/// between.
const LOOKED_AT: usize = 4_096;
const ANSWERED: usize = 64;
const MOST_WAITING: usize = 1_024;
/// How long a swap is waited for before it is said that it takes a while.
const SWAP_PATIENCE: Duration = Duration::from_secs(2);
const SWAP_LOOK: Duration = Duration::from_millis(5);

/// A model that was loaded for this run, and the width of its last predicted bin, ns.
pub struct LoadedModel {
    /// The model.
    pub predictor: Box<dyn Predictor>,
    /// Width of its last predicted bin, ns.
    pub last_bin_ns: i64,
}

/// Loads a checkpoint, for one of its sessions where one is named. Runs on a thread of its own.
pub type LoadModel = dyn Fn(&Path, Option<&str>) -> Result<LoadedModel, String> + Send + Sync;

/// Told of every request that changed the run: host time at which it was heard, monotonic ns, the request, and its answer. Called by
/// the threads that answer.
pub type NoteRequest = dyn Fn(i64, &Request, &Value) + Send + Sync;

/// How a run can be told what to do.
pub struct ControlConfig {
    /// Where it listens.
    pub endpoint: String,
    /// Another port of this machine will do, where that one is taken.
    pub or_any_port: bool,
    /// Other machines may connect, without encryption.
    pub insecure_bind: bool,
    /// Encryption, and who may connect.
    #[cfg(feature = "curve")]
    pub curve: Option<super::curve::CurveServer>,
}

impl ControlConfig {
    /// At this endpoint and no other, without encryption and only for this machine.
    pub fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.into(),
            or_any_port: false,
            insecure_bind: false,
            #[cfg(feature = "curve")]
            curve: None,
        }
    }
}

/// A bound socket, before there is a run.
pub struct ControlSocket {
    socket: zmq::Socket,
    address: String,
    note: Arc<NoteRequest>,
    #[cfg(feature = "curve")]
    doorkeeper: Option<super::curve::Doorkeeper>,
}

/// The control thread of a run.
pub struct ControlServer {
    address: String,
    over: Arc<AtomicBool>,
    news: Receiver<String>,
    thread: JoinHandle<Result<(), zmq::Error>>,
}

/// Identity of whoever asked, and whether an empty frame stood before the request.
#[derive(Clone)]
struct Envelope {
    identity: Vec<u8>,
    delimited: bool,
}

/// Who asked, and for what; or what is wrong with that.
type Asked = (Envelope, Result<Request, String>);

/// An answer that comes later, and to whom.
type Late = (Envelope, Value);

/// What the thread works with.
struct Server {
    socket: zmq::Socket,
    handle: Arc<RunHandle>,
    load: Arc<LoadModel>,
    note: Arc<NoteRequest>,
    over: Arc<AtomicBool>,
    news: Sender<String>,
    /// Answers that another thread gives.
    late: (Sender<Late>, Receiver<Late>),
    swapping: Arc<AtomicBool>,
    #[cfg(feature = "curve")]
    _doorkeeper: Option<super::curve::Doorkeeper>,
}

/// What requests change of a run at once.
struct Changeable {
    parameters: ParameterValues,
    stopped: Option<StopCause>,
    is_stopping: bool,
}

impl Changeable {
    fn of(run: &RunHandle) -> Self {
        Self {
            parameters: run.parameters().values(),
            stopped: run.switch().cause(),
            is_stopping: run.is_stopping(),
        }
    }

    /// Whether a request that was granted has changed the run, which was like this and is as `now` is.
    fn is_changed_by(&self, request: &Request, now: &Self) -> bool {
        match request {
            Request::Set { .. } => self.parameters != now.parameters,
            Request::EmergencyStop {} | Request::Release {} | Request::Heartbeat {} => self.stopped != now.stopped,
            Request::Stop {} => self.is_stopping != now.is_stopping,
            Request::Recalibrate {} => true,
            // A swap is noted where its answer is given.
            Request::State {} | Request::Statistics {} | Request::Swap { .. } => false,
        }
    }
}

fn refusal(sentence: impl Into<String>) -> Value {
    json!({"ok": false, "error": sentence.into()})
}

/// `object` and `"ok": true`.
fn granted(mut object: Value) -> Value {
    object["ok"] = json!(true);
    object
}

impl ControlSocket {
    /// Binds the endpoint.
    ///
    /// # Errors
    /// Where it cannot be bound, or others could reach it without encryption.
    pub fn bind(config: &ControlConfig) -> Result<Self, ControlError> {
        #[cfg(feature = "curve")]
        let encrypted = config.curve.is_some();
        #[cfg(not(feature = "curve"))]
        let encrypted = false;
        if !is_local(&config.endpoint) && !config.insecure_bind && !encrypted {
            return Err(ControlError::Open(config.endpoint.clone()));
        }
        let context = zmq::Context::new();
        let socket = context.socket(zmq::ROUTER)?;
        socket.set_linger(500)?;
        socket.set_rcvhwm(WAITING)?;
        socket.set_sndhwm(WAITING)?;
        socket.set_maxmsgsize(MOST_BYTES as i64)?;
        #[cfg(feature = "curve")]
        let doorkeeper = match &config.curve {
            Some(curve) => Some(curve.guard(&context, &socket)?),
            None => None,
        };
        let address = bind(&socket, config)?;
        Ok(Self {
            socket,
            address,
            note: Arc::new(|_, _, _| ()),
            #[cfg(feature = "curve")]
            doorkeeper,
        })
    }

    /// Tells `note` of every request that changes the run.
    pub fn noting(self, note: Arc<NoteRequest>) -> Self {
        Self { note, ..self }
    }

    /// Starts the thread that answers for a run; `load` makes models for it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn serve(self, handle: Arc<RunHandle>, load: Arc<LoadModel>) -> Result<ControlServer, ControlError> {
        let (over, (news_in, news)) = (Arc::new(AtomicBool::new(false)), unbounded());
        let server = Server {
            socket: self.socket,
            handle,
            load,
            note: self.note,
            over: over.clone(),
            news: news_in,
            late: unbounded(),
            swapping: Arc::default(),
            #[cfg(feature = "curve")]
            _doorkeeper: self.doorkeeper,
        };
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            let news = server.news.clone();
            let done = server.run();
            if let Err(error) = done {
                // Who would have heard it at the end has to know now: nobody can stop the run here any more.
                let _ = news.send(format!("FAILED, nothing is heard here any more: {error}"));
            }
            done
        })?;
        Ok(ControlServer {
            address: self.address,
            over,
            news,
            thread,
        })
    }
}

/// What came from a socket, without what would do something to a terminal.
fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            String::from(c)
        }
    };
    text.chars().map(plain).collect()
}

impl ControlServer {
    /// The address that it really has.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it was told since the last call, one line each, for people.
    pub fn news(&self) -> impl Iterator<Item = String> + '_ {
        self.news.try_iter().map(|news| printable(&news))
    }

    /// The run is over: ends the thread. Says what failed.
    pub fn finish(self) -> Option<String> {
        self.over.store(true, Relaxed);
        match self.thread.join() {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(ControlError::Socket(error).to_string()),
            Err(_) => Some("the control thread panicked".into()),
        }
    }
}

fn bind(socket: &zmq::Socket, config: &ControlConfig) -> Result<String, ControlError> {
    let endpoint = &config.endpoint;
    let bound = match socket.bind(endpoint) {
        Err(zmq::Error::EADDRINUSE) if config.or_any_port => socket.bind("tcp://127.0.0.1:*"),
        bound => bound,
    };
    bound.map_err(|problem| ControlError::Bind {
        endpoint: endpoint.clone(),
        problem,
    })?;
    Ok(socket.get_last_endpoint()?.unwrap_or_else(|_| endpoint.clone()))
}

impl Server {
    fn run(self) -> Result<(), zmq::Error> {
        let mut waiting: VecDeque<(Envelope, Request)> = VecDeque::new();
        while !self.over.load(Relaxed) {
            while let Ok((to, answer)) = self.late.1.try_recv() {
                self.send(&to, &answer)?;
            }
            if waiting.is_empty() && !is_ready(&self.socket, LOOK_MS)? {
                continue;
            }
            // Everything that has come is looked at before anything else is answered: who floods this socket with questions
            // does not keep a stop from being heard.
            for _ in 0..LOOKED_AT {
                let Some((from, request)) = self.receive()? else {
                    break;
                };
                let answer = match request {
                    Ok(Request::EmergencyStop {}) => self.answer(Request::EmergencyStop {}, &from),
                    Ok(_) if waiting.len() == MOST_WAITING => Some(refusal("too many requests at once")),
                    Ok(request) => {
                        waiting.push_back((from, request));
                        continue;
                    }
                    Err(sentence) => Some(refusal(sentence)),
                };
                if let Some(answer) = answer {
                    self.send(&from, &answer)?;
                }
            }
            for _ in 0..ANSWERED {
                let Some((from, request)) = waiting.pop_front() else {
                    break;
                };
                if let Some(answer) = self.answer(request, &from) {
                    self.send(&from, &answer)?;
                }
            }
        }
        Ok(())
    }

    /// The next request, or what is wrong with it; none where none has come.
    fn receive(&self) -> Result<Option<Asked>, zmq::Error> {
        let mut parts = match self.socket.recv_multipart(zmq::DONTWAIT) {
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(None),
            parts => parts?.into_iter(),
        };
        let identity = parts.next().unwrap_or_default();
        let mut rest: Vec<Vec<u8>> = parts.collect();
        let delimited = rest.len() > 1 && rest[0].is_empty();
        if delimited {
            rest.remove(0);
        }
        let request = match &rest[..] {
            [request] => Request::parse(request),
            _ => Err(format!("a request is one frame, and {} came", rest.len())),
        };
        Ok(Some((Envelope { identity, delimited }, request)))
    }

    /// Sends an answer. Who has gone, or takes none, gets none.
    fn send(&self, to: &Envelope, answer: &Value) -> Result<(), zmq::Error> {
        let text = answer.to_string();
        let mut parts = vec![&to.identity[..]];
        if to.delimited {
            parts.push(&[]);
        }
        parts.push(text.as_bytes());
        match self.socket.send_multipart(parts, zmq::DONTWAIT) {
            Err(zmq::Error::EAGAIN | zmq::Error::EHOSTUNREACH) => Ok(()),
            sent => sent,
        }
    }

    fn tell(&self, news: impl Into<String>) {
        // Nobody may want to hear it.
        let _ = self.news.send(news.into());
    }

    /// The answer; none yet where another thread gives it. What has changed the run is noted.
    fn answer(&self, request: Request, from: &Envelope) -> Option<Value> {
        let heard_ns = monotonic_ns();
        let before = Changeable::of(&self.handle);
        let answer = self.done(&request, heard_ns, from)?;
        if answer["ok"] == true && before.is_changed_by(&request, &Changeable::of(&self.handle)) {
            (self.note)(heard_ns, &request, &answer);
        }
        Some(answer)
    }

    /// Does what it is told; the same answer.
    fn done(&self, request: &Request, heard_ns: i64, from: &Envelope) -> Option<Value> {
        let run = &self.handle;
        Some(match request {
            Request::State {} => granted(state(run)),
            Request::Statistics {} => granted(statistics(run)),
            Request::Set { parameters } => match run.parameters().set(parameters) {
                Ok(()) => {
                    let values = json!(run.parameters().values());
                    self.tell(format!("parameters are now {values}"));
                    granted(json!({"parameters": values}))
                }
                Err(sentence) => refusal(sentence),
            },
            Request::Swap { checkpoint, session } => {
                return self.swap((heard_ns, request), checkpoint, session.clone(), from)
            }
            Request::Recalibrate {} if run.recalibrate() => {
                self.tell("identities are computed anew");
                granted(json!({"computed": run.calibration_counts()}))
            }
            Request::Recalibrate {} => refusal("this run computes no identities (--calibrate)"),
            Request::EmergencyStop {} => {
                run.switch().stop();
                self.tell("EMERGENCY STOP: only mean rates go out until `ctl release`");
                granted(json!({"stopped": run.switch().cause()}))
            }
            Request::Release {} => match run.release() {
                Ok(()) => {
                    self.tell("released: predictions go out");
                    granted(json!({"stopped": run.switch().cause()}))
                }
                Err(sentence) => refusal(sentence),
            },
            Request::Heartbeat {} if run.parameters().values().heartbeat_ms.is_none() => {
                refusal("this run asks for no heartbeat (guards.heartbeat_ms)")
            }
            Request::Heartbeat {} => {
                run.heartbeat();
                granted(json!({"stopped": run.switch().cause()}))
            }
            Request::Stop {} => {
                self.tell("told to stop");
                run.stop();
                granted(json!({}))
            }
        })
    }

    /// Loads a model and hands it over, on a thread of its own, which gives the answer.
    fn swap(
        &self,
        (heard_ns, request): (i64, &Request),
        checkpoint: &Path,
        session: Option<String>,
        from: &Envelope,
    ) -> Option<Value> {
        if self.swapping.swap(true, Relaxed) {
            return Some(refusal("another model is being loaded"));
        }
        self.tell(format!("loading {}", checkpoint.display()));
        let (run, load, news) = (self.handle.clone(), self.load.clone(), self.news.clone());
        let (note, request) = (self.note.clone(), request.clone());
        let (answers, swapping) = (self.late.0.clone(), self.swapping.clone());
        let (checkpoint, from) = (checkpoint.to_path_buf(), from.clone());
        let thread = std::thread::Builder::new().name("load model".into());
        let started = thread.spawn(move || {
            // A panic, which is a fault of this program, must not leave the asker without an answer and others without a swap.
            let exchanged = catch_unwind(AssertUnwindSafe(|| {
                exchange(&run, load.as_ref(), &checkpoint, session.as_deref())
            }));
            let exchanged = exchanged.unwrap_or_else(|_| Err("loading it panicked, a fault of this program".into()));
            let answer = match exchanged {
                Ok(predicts) => {
                    let model = if predicts { Some(run.model()) } else { run.next_model() };
                    let model = model.map(|model| model.description).unwrap_or_default();
                    let _ = news.send(match predicts {
                        true => format!("{model} predicts now"),
                        false => format!("{model} goes along until it is ready to predict"),
                    });
                    let answer = granted(json!({"model": model, "predicts": predicts}));
                    note(heard_ns, &request, &answer);
                    answer
                }
                Err(sentence) => {
                    let _ = news.send(format!("{} was NOT taken: {sentence}", checkpoint.display()));
                    refusal(sentence)
                }
            };
            swapping.store(false, Relaxed);
            let _ = answers.send((from, answer));
        });
        match started {
            Ok(_) => None,
            Err(error) => {
                self.swapping.store(false, Relaxed);
                Some(refusal(ControlError::Thread(error).to_string()))
            }
        }
    }
}

/// Whether something has come, after so long a wait at most. A signal that comes to this thread ends a wait, and nothing else.
pub(super) fn is_ready(socket: &zmq::Socket, most_ms: i64) -> Result<bool, zmq::Error> {
    match socket.poll(zmq::POLLIN, most_ms) {
        Ok(ready) => Ok(ready > 0),
        Err(zmq::Error::EINTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Loads a model and hands it over. Says whether it predicts already.
fn exchange(run: &RunHandle, load: &LoadModel, checkpoint: &Path, session: Option<&str>) -> Result<bool, String> {
    let loaded = load(checkpoint, session)?;
    let before = run.exchanged();
    run.exchange_model(loaded.predictor, loaded.last_bin_ns)?;
    let begin = Instant::now();
    while run.exchanged() == before && begin.elapsed() < SWAP_PATIENCE && !run.is_stopping() {
        std::thread::sleep(SWAP_LOOK);
    }
    Ok(run.exchanged() > before)
}

fn state(run: &RunHandle) -> Value {
    let (live, model) = (run.live(), run.model());
    json!({
        "state": live.state,
        "waits_for": (live.state == RunState::Ready).then_some("a subscriber"),
        "stopped": run.switch().cause(),
        "ending": run.is_stopping(),
        "model": model.description,
        "model_hash": format!("{:016x}", model.hash),
        "next_model": run.next_model().map(|model| model.description),
        "exchanged": run.exchanged(),
        "units": run.units(),
        "epoch": run.epoch(),
        "parameters": run.parameters().values(),
        "program": env!("CARGO_PKG_VERSION"),
    })
}

fn statistics(run: &RunHandle) -> Value {
    json!({
        "live": run.live(),
        "sources": run.sources(),
        "calibration": run.calibration_counts(),
        "heartbeats": run.switch().heartbeats(),
        "stops": run.switch().stops(),
    })
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_came_from_a_socket_is_one_line_that_does_nothing_to_a_terminal() {
        assert_eq!(printable("loading /x\u{1b}[2J\nü.st"), "loading /x\\u{1b}[2J\\nü.st");
    }
}
