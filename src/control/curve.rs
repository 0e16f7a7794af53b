//! An encrypted control socket: CURVE, and a list of who may connect.
//!
//! Needs a libzmq that has CURVE; the one that comes with the crate `zmq` has not, and then everything here is an error that says so.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use zmq::{z85_decode, z85_encode, CurveKeyPair};

use super::server::is_ready;
use super::ControlError;

/// Where libzmq asks whether a client may connect (ZeroMQ RFC 27).
const ZAP_ENDPOINT: &str = "inproc://zeromq.zap.01";
/// How often the doorkeeper looks whether the run is over, ms.
const LOOK_MS: i64 = 50;

/// A pair of keys, in the text form of ZeroMQ (Z85, 40 characters each).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    public: String,
    secret: String,
}

/// A run's keys, and who may connect.
#[derive(Clone)]
pub struct CurveServer {
    secret: Vec<u8>,
    clients: Vec<Vec<u8>>,
}

/// Answers libzmq's question whether a client may connect, on a thread of its own, until it is dropped.
pub struct Doorkeeper {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn check_library() -> Result<(), ControlError> {
    match zmq::has("curve") {
        Some(true) => Ok(()),
        _ => Err(ControlError::Key(
            "this program was linked with a libzmq without CURVE: README, \"Control\", says how to build it with one"
                .into(),
        )),
    }
}

fn key(text: &str, what: &str) -> Result<Vec<u8>, ControlError> {
    let bytes = z85_decode(text).ok().filter(|bytes| bytes.len() == 32);
    bytes.ok_or_else(|| ControlError::Key(format!("{what} is no key: one has 40 characters, in the form Z85")))
}

fn read(path: &Path) -> Result<Keys, ControlError> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| ControlError::Key(format!("{file}: {error}")))?;
    toml::from_str(&text).map_err(|error| ControlError::Key(format!("{file}: {}", error.message())))
}

/// Makes a pair of keys and writes it into a file that only its owner can read. Returns the public one.
///
/// # Errors
/// Where the file is there already or cannot be written, or libzmq has no CURVE.
pub fn write_keys(path: &Path) -> Result<String, ControlError> {
    check_library()?;
    let fault = |error: &dyn std::fmt::Display| ControlError::Key(format!("{}: {error}", path.display()));
    let pair = CurveKeyPair::new()?;
    let encode = |bytes: &[u8; 32]| z85_encode(bytes).map_err(|error| fault(&error));
    let keys = Keys {
        public: encode(&pair.public_key)?,
        secret: encode(&pair.secret_key)?,
    };
    let text = toml::to_string(&keys).map_err(|error| fault(&error))?;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| fault(&error))?;
    Ok(keys.public)
}

/// Encrypts a client's socket, before it connects: with its own keys, to a server of that public key.
///
/// # Errors
/// Keys that are none.
pub fn encrypt_client(socket: &zmq::Socket, keys: &Path, server: &str) -> Result<(), ControlError> {
    check_library()?;
    let own = read(keys)?;
    socket.set_curve_publickey(&key(&own.public, "the client's public key")?)?;
    socket.set_curve_secretkey(&key(&own.secret, "the client's secret key")?)?;
    socket.set_curve_serverkey(&key(server, "the run's public key (--server-key)")?)?;
    Ok(())
}

impl CurveServer {
    /// Reads the run's keys; `clients` are the public keys of those who may connect.
    ///
    /// # Errors
    /// Keys that are none, or nobody who may connect.
    pub fn read(keys: &Path, clients: &[String]) -> Result<Self, ControlError> {
        check_library()?;
        if clients.is_empty() {
            return Err(ControlError::Key(
                "control.curve.clients is empty: nobody could connect".into(),
            ));
        }
        let named = |(place, text): (usize, &String)| key(text, &format!("control.curve.clients[{place}]"));
        Ok(Self {
            secret: key(&read(keys)?.secret, "the run's secret key (control.curve.keys)")?,
            clients: clients.iter().enumerate().map(named).collect::<Result<_, _>>()?,
        })
    }

    /// Encrypts the run's socket, before it is bound, and starts who lets only these clients in.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn guard(&self, context: &zmq::Context, socket: &zmq::Socket) -> Result<Doorkeeper, ControlError> {
        let questions = context.socket(zmq::REP)?;
        questions.set_linger(0)?;
        questions.bind(ZAP_ENDPOINT)?;
        socket.set_zap_domain("control")?;
        socket.set_curve_server(true)?;
        socket.set_curve_secretkey(&self.secret)?;
        let over = Arc::new(AtomicBool::new(false));
        let (ended, clients) = (over.clone(), self.clients.clone());
        let thread = std::thread::Builder::new().name("doorkeeper".into());
        let thread = thread.spawn(move || {
            // Without answers nobody is let in: a failure here keeps the door shut.
            let _ = answer(&questions, &clients, &ended);
        })?;
        Ok(Doorkeeper {
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(questions: &zmq::Socket, clients: &[Vec<u8>], over: &AtomicBool) -> Result<(), zmq::Error> {
    while !over.load(Relaxed) {
        if !is_ready(questions, LOOK_MS)? {
            continue;
        }
        // Version, number, domain, address, identity, mechanism, and of CURVE the client's public key.
        let question = questions.recv_multipart(0)?;
        let known = match &question[..] {
            [version, _, _, _, _, mechanism, key] => {
                version == b"1.0" && mechanism == b"CURVE" && clients.iter().any(|client| client == key)
            }
            _ => false,
        };
        let number = question.get(1).map_or(&[][..], Vec::as_slice);
        let (status, text): (&[u8], &[u8]) = if known {
            (b"200", b"OK")
        } else {
            (b"400", b"not a client of this run")
        };
        questions.send_multipart([b"1.0", number, status, text, b"", b""], 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a server of `server`'s keys hears a client that `set_up` has prepared.
    fn is_heard(server: &CurveServer, set_up: impl FnOnce(&zmq::Socket)) -> bool {
        let context = zmq::Context::new();
        let listening = context.socket(zmq::ROUTER).unwrap();
        listening.set_linger(0).unwrap();
        let _doorkeeper = server.guard(&context, &listening).unwrap();
        listening.bind("tcp://127.0.0.1:*").unwrap();
        let at = listening.get_last_endpoint().unwrap().unwrap();
        let client = zmq::Context::new().socket(zmq::DEALER).unwrap();
        client.set_linger(0).unwrap();
        set_up(&client);
        client.connect(&at).unwrap();
        client.send("hello", 0).unwrap();
        listening.poll(zmq::POLLIN, 700).unwrap() > 0
    }

    #[test]
    fn only_those_on_the_list_are_heard() {
        let folder = tempfile::tempdir().unwrap();
        let [rig, laptop, stranger] = ["rig", "laptop", "stranger"].map(|name| folder.path().join(name));
        if zmq::has("curve") != Some(true) {
            let refused = write_keys(&rig).unwrap_err().to_string();
            assert!(refused.contains("without CURVE"), "{refused}");
            return;
        }
        let [rig_public, laptop_public, _] = [&rig, &laptop, &stranger].map(|file| write_keys(file).unwrap());
        assert!(write_keys(&rig).unwrap_err().to_string().contains("exists"));
        let server = CurveServer::read(&rig, &[laptop_public]).unwrap();
        assert!(is_heard(&server, |socket| encrypt_client(socket, &laptop, &rig_public).unwrap()));
        assert!(!is_heard(&server, |socket| encrypt_client(
            socket,
            &stranger,
            &rig_public
        )
        .unwrap()));
        assert!(!is_heard(&server, |_| ()), "without keys");
        let wrong = std::fs::read_to_string(&stranger).unwrap();
        let wrong = wrong.lines().find_map(|line| line.strip_prefix("public = ")).unwrap();
        assert!(!is_heard(&server, |socket| {
            encrypt_client(socket, &laptop, wrong.trim_matches('"')).unwrap();
        }));
        for (clients, named) in [(vec![], "is empty"), (vec!["abc".to_string()], "clients[0] is no key")] {
            let refused = CurveServer::read(&rig, &clients).err().unwrap().to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
