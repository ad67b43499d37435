//! What a relay is told to do: read from TOML, or built in code.
//!
//! [`Config::load`] reads a file and checks it, and so does everything that takes a `Config` built in code: there is one
//! set of rules, in `check`. Every mistake names file, line, column and key, and what is allowed there.
//!
//! | table             | what it says                                                             |
//! | ----------------- | ------------------------------------------------------------------------ |
//! | `[server]`        | the process: workers, cache, deadlines, watching, logging                |
//! | `[plugins.NAME]`  | where a plugin comes from and what it is granted                         |
//! | `[tenants.NAME]`  | whose plugins run in a tenant's routes                                   |
//! | `[chains.NAME]`   | plugins in order, with their configuration; first is closest to the wire |
//! | `[[routes]]`      | a publisher's leg and the subscribers' legs that its media goes to       |

mod check;
mod decode;
mod problem;
mod reader;
mod routes;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{
    FaultPolicy, Grants, Isolation, Limits, Malformed, PublicKey, Quotas, RtcpFeedback, RtcpMode, RtpHeaderExtension,
};

pub(crate) use check::PUBLISHER;
pub(crate) use problem::nearest;
pub use problem::{ConfigError, KeyPath, Origin, Problem};

/// Everything a relay is told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The process.
    pub server: Server,
    /// Plugins by the name that chains use. Embedded plugins need no entry unless their grants differ.
    pub plugins: BTreeMap<String, PluginEntry>,
    /// Tenants by the name that routes use. None: any name will do. Some: no other name does.
    pub tenants: BTreeMap<String, Tenant>,
    /// Chains by the name that legs use.
    pub chains: BTreeMap<String, Vec<Member>>,
    /// In the file's order.
    pub routes: Vec<Route>,
    /// The text it was read from, where it was.
    pub origin: Option<Origin>,
}

/// The process as a whole: `[server]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Worker threads; a route lives on one. `None`: as many as there are processors, and no more than routes.
    pub workers: Option<usize>,
    /// Where compiled plugins are kept between runs. `None`: they are compiled at each start.
    pub cache: Option<PathBuf>,
    /// Where plugin files are looked for beside the configuration's own folder.
    pub plugin_dirs: Vec<PathBuf>,
    /// How long calls of a plugin that do not return may hold up others: see [`EngineConfig`](sandbar_host::EngineConfig).
    /// `None`: the host library's default.
    pub call_deadline: Option<Duration>,
    /// How often plugin files are looked at for changes; `None`: never, only on SIGHUP.
    pub watch: Option<Duration>,
    /// How long a shutdown may take to close sessions and send what they still have to say.
    pub drain: Duration,
    /// The filter of the log, such as `info` or `info,sandbar=debug`.
    pub log: Option<String>,
    /// How often counters are written, as a line of JSON; `None`: only on SIGUSR1.
    pub stats_interval: Option<Duration>,
    /// Bytes of kernel buffer asked for, per socket and direction. The kernel may grant less.
    pub socket_buffer: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: None,
            cache: None,
            plugin_dirs: Vec::new(),
            call_deadline: None,
            watch: Some(Duration::from_millis(500)),
            drain: Duration::from_secs(2),
            log: None,
            stats_interval: None,
            // A 20 Mbit/s stream for 400 ms: longer than a worker is ever kept from its sockets.
            socket_buffer: 1 << 20,
        }
    }
}

/// A plugin: `[plugins.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEntry {
    /// Where its component comes from.
    pub source: PluginSource,
    /// What it may do, if it wants to.
    pub grants: Grants,
}

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// Embedded in this program, under this name.
    Builtin(String),
    /// A file, watched for changes. A relative path is looked for in the configuration's folder, then in
    /// `server.plugin_dirs`.
    File(PathBuf),
    /// In memory, for programs that embed a relay.
    Bytes(Bytes),
}

/// Whose sessions a route's are: `[tenants.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// Keys, one of which has to have signed every plugin file in the tenant's chains (`sandbar plugin sign`). Embedded
    /// plugins are the program's own. Empty: files need no signature.
    pub signed_by: Vec<PublicKey>,
    /// The plugins that its chains may have, by their names. `None`: all of them.
    pub plugins: Option<Vec<String>>,
    /// The most that its plugins may be granted, whatever their entries say. `None`: what those say.
    pub grants: Option<Grants>,
    /// What its sessions may use together.
    pub quotas: Quotas,
}

/// A place in a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// A name of `[plugins]`, or of an embedded plugin.
    pub plugin: String,
    /// The plugin's own configuration, as JSON.
    pub config: String,
    /// Who shares an instance. `None`: by what the plugin sees.
    pub isolation: Option<Isolation>,
    /// What becomes of the session's packets when the plugin fails.
    pub on_fault: FaultPolicy,
    /// What it may use.
    pub limits: Limits,
    /// Where what the plugin writes is kept. `None`: nowhere.
    pub sink: Option<Sink>,
}

/// A file that a plugin's writes are appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// The file. A relative path is in the configuration's folder; `{leg}` stands for the leg's name, with `-` for `/`.
    pub file: PathBuf,
    /// The most bytes that it is let grow to. What would exceed that is dropped.
    pub max_bytes: u64,
}

/// An hour of 500 packets a second, headers alone.
pub(crate) const DEFAULT_SINK_BYTES: u64 = 256 << 20;

impl Sink {
    /// The file, of at most 256 MiB.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), max_bytes: DEFAULT_SINK_BYTES }
    }

    /// The path for a leg of this name.
    pub(crate) fn path(&self, leg: &str) -> PathBuf {
        match self.file.to_str() {
            Some(file) => file.replace("{leg}", &leg.replace('/', "-")).into(),
            None => self.file.clone(),
        }
    }
}

impl Member {
    /// The plugin with its own defaults.
    pub fn new(plugin: impl Into<String>) -> Self {
        Self {
            plugin: plugin.into(),
            config: "{}".to_owned(),
            isolation: None,
            on_fault: FaultPolicy::default(),
            limits: Limits::default(),
            sink: None,
        }
    }

    /// The plugin with this configuration, as JSON.
    pub fn with_config(plugin: impl Into<String>, config: impl Into<String>) -> Self {
        Self { config: config.into(), ..Self::new(plugin) }
    }
}

/// One publisher and those who get its media: `[[routes]]`. A route and all its legs live on one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique among routes.
    pub name: String,
    /// Who owns the route's sessions. Tenants share no plugin instance.
    pub tenant: String,
    /// The least time between two requests for a key frame of the same stream to the publisher.
    pub keyframe_interval: Duration,
    /// The leg that media comes in by.
    pub publisher: Publisher,
    /// The legs that it goes out by.
    pub subscribers: Vec<Subscriber>,
}

impl Route {
    /// A route of the default tenant.
    pub fn new(name: impl Into<String>, publisher: Publisher, subscribers: Vec<Subscriber>) -> Self {
        Self {
            name: name.into(),
            tenant: DEFAULT_TENANT.to_owned(),
            keyframe_interval: DEFAULT_KEYFRAME_INTERVAL,
            publisher,
            subscribers,
        }
    }
}

pub(crate) const DEFAULT_TENANT: &str = "default";

/// As libwebrtc and other media servers: an encoder is asked for no more than a few key frames a second.
pub(crate) const DEFAULT_KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

/// How a leg reaches its peer, and what its session is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// Where RTP is received, and sent from.
    pub listen: SocketAddr,
    /// Where RTCP is received, and sent from.
    pub rtcp: RtcpPort,
    /// Who is at the other end.
    pub peer: Peer,
    /// A name of `[chains]`; `None`: an empty chain.
    pub chain: Option<String>,
    /// The most bytes of a packet on the wire, without IP and UDP headers.
    pub mtu: u16,
    /// How outgoing RTCP is packed.
    pub rtcp_mode: RtcpMode,
    /// What becomes of datagrams that are neither RTP nor RTCP.
    pub malformed: Malformed,
    /// RTCP canonical name. `None`: a random one (RFC 7022).
    pub cname: Option<String>,
}

impl Leg {
    /// A leg with an empty chain that learns its peer, RTP and RTCP on one port.
    pub fn listen(address: SocketAddr) -> Self {
        Self {
            listen: address,
            rtcp: RtcpPort::Mux,
            peer: Peer::default(),
            chain: None,
            mtu: default_mtu(address),
            rtcp_mode: RtcpMode::Compound,
            malformed: Malformed::default(),
            cname: None,
        }
    }
}

/// What an Ethernet frame carries, without IP and UDP headers. Less, such as the 1200 bytes of WebRTC's endpoints, would
/// refuse retransmissions of packets that publishers make as large as that, because RTX adds two bytes (RFC 4588, 4).
fn default_mtu(address: SocketAddr) -> u16 {
    if address.is_ipv4() { 1500 - 20 - 8 } else { 1500 - 40 - 8 }
}

/// Where a leg's RTCP goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpPort {
    /// The RTP port (RFC 5761).
    Mux,
    /// The port after the RTP port (RFC 3550, 11).
    Next,
    /// A port of its own.
    Address(SocketAddr),
}

/// Who is at the other end of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Whoever sends the first valid packet. Another one may take its place after it was silent for this long.
    Learn {
        /// Silence, on RTP and RTCP together.
        relearn_after: Duration,
    },
    /// Known beforehand.
    Static {
        /// Where RTP is sent.
        rtp: SocketAddr,
        /// Where RTCP is sent. `None`: the RTP address with one port, the port after it with two.
        rtcp: Option<SocketAddr>,
        /// Whether the peer sends from the ports that it receives on (RFC 4961). Otherwise packets from any port of
        /// its host are taken.
        symmetric: bool,
    },
}

impl Default for Peer {
    fn default() -> Self {
        Self::Learn { relearn_after: DEFAULT_RELEARN_AFTER }
    }
}

/// The least interval of RTCP reports (RFC 3550, 6.2): whoever is silent for longer has left or moved.
pub(crate) const DEFAULT_RELEARN_AFTER: Duration = Duration::from_secs(5);

/// A publisher's leg: `[routes.publisher]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Publisher {
    /// Transport and session.
    pub leg: Leg,
    /// What it sends.
    pub streams: Vec<Stream>,
}

/// A stream that a publisher sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// Unique in the route, for people, logs and subscribers' overrides.
    pub name: String,
    /// `None`: the first source that sends `payload_type`.
    pub ssrc: Option<u32>,
    /// Unique in the route.
    pub payload_type: u8,
    /// Such as `video/VP8`.
    pub mime_type: String,
    /// RTP timestamp units per second.
    pub clock_rate: u32,
    /// Audio channels; 0 for video.
    pub channels: u16,
    /// Format parameters, as in `a=fmtp`.
    pub fmtp: String,
    /// Retransmissions as RTX (RFC 4588), where negotiated.
    pub rtx: Option<Rtx>,
    /// Repair packets in a stream of their own, such as FlexFEC, where negotiated.
    pub fec: Option<Fec>,
    /// As in `a=rtcp-fb`.
    pub rtcp_feedback: Vec<RtcpFeedback>,
    /// Header extensions, as negotiated.
    pub extensions: Vec<RtpHeaderExtension>,
}

/// A stream of retransmissions (RFC 4588).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtx {
    /// `None`: learned from a publisher's packets; derived for a subscriber.
    pub ssrc: Option<u32>,
    /// Other than the stream's own.
    pub payload_type: u8,
}

/// A stream of repair packets (forward error correction).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fec {
    /// `None`: learned from a publisher's packets; derived for a subscriber.
    pub ssrc: Option<u32>,
    /// Other than the stream's own and that of its retransmissions.
    pub payload_type: u8,
}

/// A subscriber's leg: `[[routes.subscribers]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscriber {
    /// Unique in the route; not `publisher`.
    pub name: String,
    /// Transport and session.
    pub leg: Leg,
    /// Which of the publisher's streams it gets, and what differs. Empty: all, with nothing different.
    pub streams: Vec<StreamOverride>,
    /// Whether the publisher's sender reports go to this subscriber. `None`: only where its chain has no
    /// `report-sender`, which makes the relay's own.
    pub forward_sender_reports: Option<bool>,
}

impl Subscriber {
    /// A subscriber that gets all streams as they are.
    pub fn new(name: impl Into<String>, leg: Leg) -> Self {
        Self { name: name.into(), leg, streams: Vec::new(), forward_sender_reports: None }
    }
}

/// What is different about a stream for one subscriber.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamOverride {
    /// The publisher's stream.
    pub name: String,
    /// `None`: as the publisher's; `Some(None)`: retransmissions go in the stream itself.
    pub rtx: Option<Option<Rtx>>,
    /// `None`: as the publisher's; `Some(None)`: no repair packets.
    pub fec: Option<Option<Fec>>,
    /// `None`: as the publisher's.
    pub rtcp_feedback: Option<Vec<RtcpFeedback>>,
    /// `None`: as the publisher's.
    pub extensions: Option<Vec<RtpHeaderExtension>>,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        Self::parse(file, text)
    }

    /// Reads and checks what `file` contains. The file's folder is where relative paths start.
    pub fn parse(file: &Path, text: String) -> Result<Self, ConfigError> {
        let config = Self::decode(file, text)?;
        config.check()?;
        Ok(config)
    }

    /// Reads a file for its chains and plugins. There may be routes, but they are not checked.
    pub fn load_chains(file: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        Self::parse_chains(file, text)
    }

    /// Reads what `file` contains for its chains and plugins.
    pub(crate) fn parse_chains(file: &Path, text: String) -> Result<Self, ConfigError> {
        let config = Self::decode(file, text)?;
        config.refuse(check::chains_alone(&config))?;
        Ok(config)
    }

    fn decode(file: &Path, text: String) -> Result<Self, ConfigError> {
        let origin = Origin { file: file.to_owned(), text };
        let config = decode::document(&origin)?;
        Ok(Self { origin: Some(origin), ..config })
    }

    /// Checks what a file could not get wrong by its form alone: names that lead nowhere, addresses used twice.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.refuse(check::all(self))
    }

    fn refuse(&self, found: Vec<(KeyPath, String)>) -> Result<(), ConfigError> {
        if found.is_empty() {
            return Ok(());
        }
        let mut problems: Vec<_> = found.iter().map(|(path, message)| self.problem(path, message.as_str())).collect();
        problems.sort_by_key(|problem| problem.position);
        Err(ConfigError::Invalid(problems))
    }

    /// A problem with the value at `path`, with its place in the file where there is one.
    pub fn problem(&self, path: &KeyPath, message: impl Into<String>) -> Problem {
        match &self.origin {
            Some(origin) => origin.problem(path, message),
            None => Problem { file: None, position: None, key: path.to_string(), message: message.into() },
        }
    }

    /// The plugin that a chain's member names: an entry, or an embedded plugin with the default grants.
    pub fn plugin(&self, name: &str) -> Option<PluginEntry> {
        self.plugins.get(name).cloned().or_else(|| {
            sandbar_plugins::by_name(name)
                .map(|_| PluginEntry { source: PluginSource::Builtin(name.to_owned()), grants: Grants::default() })
        })
    }

    /// The folder that relative paths start from: the file's, or the current one.
    pub fn folder(&self) -> &Path {
        self.origin.as_ref().and_then(|origin| origin.file.parent()).unwrap_or(Path::new(""))
    }

    /// Where a plugin's file may be, in the order in which it is looked for.
    pub fn candidates(&self, file: &Path) -> Vec<PathBuf> {
        let folder = self.folder();
        // `join` lets an absolute path stand for itself.
        let folders =
            std::iter::once(folder.to_owned()).chain(self.server.plugin_dirs.iter().map(|dir| folder.join(dir)));
        let mut candidates: Vec<_> = folders.map(|folder| folder.join(file)).collect();
        candidates.dedup();
        candidates
    }
}
