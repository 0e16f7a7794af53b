//! The client of Network Events.
//!
//! At most one request is on its way. The socket takes none while the GUI is not connected, and a request that is not answered in
//! time is thrown away with its socket, so that nothing is sent late. Whenever contact is made, the GUI is asked
//! something harmless first, and then the line is lowered: it may have been left high.

use zmq::{PollItem, Socket, DONTWAIT, POLLIN, POLLOUT};

use super::super::line::{LineError, LineNews, LineReport, TtlLine};
use super::{ttl_handled, ttl_request, IS_ACQUIRING};
use crate::pipeline::Latency;

/// Before the first attempt to connect again, ns; doubled with each that fails.
const FIRST_BACK_OFF_NS: i64 = 50_000_000;
/// The longest such wait, ns.
const LONGEST_BACK_OFF_NS: i64 = 2_000_000_000;
/// Longest answer that is taken, bytes.
const LONGEST_ANSWER: i64 = 64_000;
/// Characters of an unexpected answer that are shown.
const SHOWN: usize = 100;

/// Which line of which GUI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkEventsConfig {
    /// Endpoint of the plugin.
    pub endpoint: String,
    /// The line, from 1.
    pub line: u16,
    /// How long an answer may take, ns.
    pub answer_timeout_ns: i64,
}

/// One line of the GUI.
pub struct NetworkEvents {
    config: NetworkEventsConfig,
    context: zmq::Context,
    link: Link,
    back_off_ns: i64,
    /// What the line is, as far as that was confirmed since the last contact.
    confirmed: Option<bool>,
    may_be_high: bool,
    lower_wanted: bool,
    acquiring: bool,
    report: Counts,
}

enum Link {
    /// No socket until then.
    Away { retry_ns: i64 },
    /// A socket that may not be connected yet.
    Connecting(Socket),
    /// An answer is awaited.
    Asking(Socket, Asked),
    /// Nothing is on its way.
    Idle(Socket),
}

struct Asked {
    request: Request,
    sent_ns: i64,
}

#[derive(Clone, Copy)]
enum Request {
    IsAcquiring,
    Raise { publish_ns: i64 },
    Lower,
}

#[derive(Default)]
struct Counts {
    sent: u64,
    handled: u64,
    unanswered: u64,
    not_sent: u64,
    contact_lost: u64,
    publish_to_sent: Latency,
    publish_to_handled: Latency,
}

impl NetworkEvents {
    /// Begins to connect; the GUI need not be there yet.
    ///
    /// # Errors
    /// An endpoint that cannot be connected to.
    pub fn connect(context: zmq::Context, config: NetworkEventsConfig) -> Result<Self, LineError> {
        let mut client = Self {
            config,
            context,
            link: Link::Away { retry_ns: 0 },
            back_off_ns: FIRST_BACK_OFF_NS,
            confirmed: None,
            may_be_high: false,
            lower_wanted: true,
            acquiring: false,
            report: Counts::default(),
        };
        client.link = Link::Connecting(client.socket().map_err(|problem| client.fault(problem))?);
        Ok(client)
    }

    fn socket(&self) -> Result<Socket, zmq::Error> {
        let socket = self.context.socket(zmq::REQ)?;
        socket.set_linger(0)?;
        // Requests are refused, not queued, while there is no connection.
        socket.set_immediate(true)?;
        socket.set_maxmsgsize(LONGEST_ANSWER)?;
        socket.connect(&self.config.endpoint)?;
        Ok(socket)
    }

    fn fault(&self, problem: zmq::Error) -> LineError {
        LineError::Socket {
            endpoint: self.config.endpoint.clone(),
            problem,
        }
    }

    fn text(&self, request: Request) -> String {
        match request {
            Request::IsAcquiring => IS_ACQUIRING.into(),
            Request::Raise { .. } => ttl_request(self.config.line, true),
            Request::Lower => ttl_request(self.config.line, false),
        }
    }

    /// Sends a request; `false` where nobody is connected.
    fn send(&mut self, socket: Socket, request: Request, now_ns: i64) -> Result<bool, LineError> {
        match socket.send(self.text(request).as_bytes(), DONTWAIT) {
            Ok(()) => {
                let asked = Asked {
                    request,
                    sent_ns: now_ns,
                };
                self.link = Link::Asking(socket, asked);
                self.report.sent += u64::from(!matches!(request, Request::IsAcquiring));
                Ok(true)
            }
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {
                self.link = Link::Connecting(socket);
                Ok(false)
            }
            Err(problem) => Err(self.fault(problem)),
        }
    }

    /// From here on nobody knows what the line is; the next contact lowers it.
    fn lose(&mut self, unanswered: Option<String>) -> LineNews {
        self.confirmed = None;
        self.lower_wanted = true;
        self.report.contact_lost += 1;
        LineNews::Lost { unanswered }
    }

    fn answered(
        &mut self,
        socket: Socket,
        asked: &Asked,
        reply: &[u8],
        now_ns: i64,
    ) -> Result<Option<LineNews>, LineError> {
        self.back_off_ns = FIRST_BACK_OFF_NS;
        self.link = Link::Idle(socket);
        let high = matches!(asked.request, Request::Raise { .. });
        let expected = ttl_handled(self.config.line, high);
        match (asked.request, reply) {
            (Request::IsAcquiring, b"0" | b"1") => self.acquiring = reply == b"1",
            (Request::Raise { publish_ns }, _) if reply == expected.as_bytes() => {
                self.confirmed = Some(true);
                self.report.handled += 1;
                self.report.publish_to_handled.record(now_ns - publish_ns);
            }
            (Request::Lower, _) if reply == expected.as_bytes() => {
                let was_known = self.confirmed.replace(false).is_some();
                self.may_be_high = false;
                self.lower_wanted = false;
                self.report.handled += 1;
                let acquiring = self.acquiring;
                return Ok((!was_known).then_some(LineNews::Ready { acquiring }));
            }
            (request, _) => {
                return Err(LineError::Refused {
                    endpoint: self.config.endpoint.clone(),
                    request: self.text(request),
                    reply: String::from_utf8_lossy(reply).chars().take(SHOWN).collect(),
                })
            }
        }
        Ok(None)
    }

    fn take_link(&mut self) -> Link {
        std::mem::replace(&mut self.link, Link::Away { retry_ns: 0 })
    }
}

fn is_connected(socket: &Socket) -> bool {
    socket.get_events().is_ok_and(|events| events.contains(POLLOUT))
}

impl TtlLine for NetworkEvents {
    fn is_ready(&self) -> bool {
        matches!(&self.link, Link::Idle(socket) if self.confirmed == Some(false) && is_connected(socket))
    }

    fn has_contact(&self) -> bool {
        self.confirmed.is_some()
    }

    fn raise(&mut self, publish_ns: i64, now_ns: i64) -> bool {
        if !self.is_ready() {
            self.report.not_sent += 1;
            return false;
        }
        let Link::Idle(socket) = self.take_link() else {
            return false;
        };
        if !matches!(self.send(socket, Request::Raise { publish_ns }, now_ns), Ok(true)) {
            self.report.not_sent += 1;
            self.lose(None);
            return false;
        }
        self.lower_wanted = false;
        self.may_be_high = true;
        self.report.publish_to_sent.record(now_ns - publish_ns);
        true
    }

    fn lower(&mut self) {
        self.lower_wanted |= self.confirmed != Some(false) || self.may_be_high;
    }

    fn step(&mut self, now_ns: i64) -> Result<Option<LineNews>, LineError> {
        match self.take_link() {
            Link::Away { retry_ns } if now_ns < retry_ns => {
                self.link = Link::Away { retry_ns };
                Ok(None)
            }
            Link::Away { .. } => {
                self.link = Link::Connecting(self.socket().map_err(|problem| self.fault(problem))?);
                Ok(None)
            }
            Link::Connecting(socket) => {
                self.send(socket, Request::IsAcquiring, now_ns)?;
                Ok(None)
            }
            Link::Asking(socket, asked) => match socket.recv_bytes(DONTWAIT) {
                Ok(reply) => self.answered(socket, &asked, &reply, now_ns),
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {
                    if now_ns - asked.sent_ns <= self.config.answer_timeout_ns {
                        self.link = Link::Asking(socket, asked);
                        return Ok(None);
                    }
                    let retry_ns = now_ns.saturating_add(self.back_off_ns);
                    self.back_off_ns = (2 * self.back_off_ns).min(LONGEST_BACK_OFF_NS);
                    self.link = Link::Away { retry_ns };
                    self.report.unanswered += u64::from(!matches!(asked.request, Request::IsAcquiring));
                    Ok(Some(self.lose(Some(self.text(asked.request)))))
                }
                Err(problem) => Err(self.fault(problem)),
            },
            Link::Idle(socket) if !is_connected(&socket) => {
                self.link = Link::Connecting(socket);
                Ok(Some(self.lose(None)))
            }
            Link::Idle(socket) if self.lower_wanted || self.confirmed.is_none() => {
                let sent = self.send(socket, Request::Lower, now_ns)?;
                Ok((!sent).then(|| self.lose(None)))
            }
            Link::Idle(socket) => {
                self.link = Link::Idle(socket);
                Ok(None)
            }
        }
    }

    fn due_ns(&self) -> Option<i64> {
        match &self.link {
            Link::Away { retry_ns } => Some(*retry_ns),
            Link::Asking(_, asked) => Some(asked.sent_ns.saturating_add(self.config.answer_timeout_ns + 1)),
            // Something to send; where that cannot be done the link is connecting.
            Link::Idle(_) if self.lower_wanted || self.confirmed.is_none() => Some(0),
            Link::Idle(_) | Link::Connecting(_) => None,
        }
    }

    fn poll_item(&self) -> Option<PollItem<'_>> {
        match &self.link {
            Link::Away { .. } | Link::Idle(_) => None,
            Link::Connecting(socket) => Some(socket.as_poll_item(POLLOUT)),
            Link::Asking(socket, _) => Some(socket.as_poll_item(POLLIN)),
        }
    }

    fn hurry(&mut self) {
        if let Link::Away { retry_ns } = &mut self.link {
            *retry_ns = 0;
        }
    }

    fn may_be_high(&self) -> bool {
        self.may_be_high
    }

    fn report(&self) -> LineReport {
        let counts = &self.report;
        LineReport {
            sent: counts.sent,
            handled: counts.handled,
            unanswered: counts.unanswered,
            not_sent: counts.not_sent,
            contact_lost: counts.contact_lost,
            publish_to_sent: counts.publish_to_sent.summary(),
            publish_to_handled: counts.publish_to_handled.summary(),
        }
    }
}
