//! Fuzz targets for every parser of the project: functions of any bytes, each with seeds to begin from.
//!
//! | module | what it puts to the test |
//! | --- | --- |
//! | `host` | RTP and RTCP, frames that guests hand on, files that may be plugins |
//! | `sdk` | headers read and written, compounds and reports, frames as a plugin is given them |
//! | `server` | the configuration, captures, and any sequence of operations on sessions |
//! | `plugins` | every plugin, with any configuration, state and events |
//! | `pairs` | plugins that undo what another did: what comes out is what went in |
//! | `mutate` | inputs from seeds, where there is no libFuzzer |
//!
//! `./x fuzz` runs them with libFuzzer, which is guided by coverage of the project's own crates; `cargo test` runs each for
//! a moment with mutations of its seeds, the same ones each time.

mod component;
mod host;
mod input;
pub mod mutate;
mod pairs;
mod plugins;
mod sdk;
mod server;
mod valid;

/// A function that holds for any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// As `./x fuzz` calls it.
    pub name: &'static str,
    /// What its bytes are.
    pub about: &'static str,
    /// Panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs that reach the parts behind the first checks.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many times slower than the others it is.
    pub weight: usize,
}

macro_rules! targets {
    ($($name:ident: $module:ident, $seeds:ident, $weight:literal, $about:literal;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            about: $about,
            run: $module::$name,
            seeds: $module::$seeds,
            weight: $weight,
        },)*];
    };
}

targets! {
    rtp: host, rtp_seeds, 1, "an RTP packet in the host: read, given other headers, unwrapped from RTX";
    rtcp: host, rtcp_seeds, 2, "the RTCP of a tick: checked and merged into datagrams";
    frames: host, frames_seeds, 1, "frames that a guest hands on";
    survey: host, survey_seeds, 1, "a file that may be a plugin";
    component: component, component_seeds, 200, "a plugin's component with some of its bytes changed, loaded and run";
    signature: host, signature_seeds, 8, "a file that is signed, and changed after that";
    header: sdk, header_seeds, 1, "an RTP header in the SDK, beside the crate rtp";
    edit: sdk, edit_seeds, 1, "changes of a header";
    rtcp_parts: sdk, rtcp_parts_seeds, 1, "a compound and its reports in the SDK, beside the crate rtcp";
    batch: sdk, batch_seeds, 4, "frames as a plugin is given them";
    config: server, config_seeds, 8, "a configuration file";
    capture: server, capture_seeds, 4, "a capture: read, written and replayed";
    session: server, session_seeds, 400, "anything that is done to sessions, with plugins that fail";
    options: plugins, options_seeds, 4, "a configuration, for every plugin";
    state: plugins, state_seeds, 4, "a state for a plugin's successor";
    events: plugins, events_seeds, 20, "a plugin, its configuration, and packets, timers and swaps";
    feedback: pairs, feedback_seeds, 8, "arrivals that are told (transport-wide, RFC 8888) and read back";
    flexfec: pairs, flexfec_seeds, 8, "packets that are protected, lost and restored";
    red: pairs, red_seeds, 8, "frames that are repeated, lost and restored";
    nack: pairs, nack_seeds, 4, "requests for packets that were sent";
    dump: pairs, dump_seeds, 4, "packets that are dumped, and read back from the capture";
}

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.iter().copied().find(|target| target.name == name)
    }
}

/// The plugins that are put through everything.
pub fn plugins() -> impl Iterator<Item = &'static str> {
    plugins::PLUGINS.iter().map(|plugin| plugin.name)
}
