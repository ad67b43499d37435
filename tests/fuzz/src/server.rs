//! What the program reads: its configuration, and captures.

use std::path::Path;
use std::time::Duration;

use sandbar::config::{Config, ConfigError};
use sandbar::fuzzing;

use crate::input::Input;
use crate::valid;

/// A configuration file.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Path::new("fuzz.toml");
    for read in [Config::parse, fuzzing::parse_chains] {
        match read(file, text.to_owned()) {
            Ok(config) => assert!(config.server.plugin_dirs.len() <= text.len()),
            Err(ConfigError::Invalid(problems)) => {
                assert!(!problems.is_empty(), "a refusal says why");
                for problem in problems {
                    let lines = text.split('\n').count();
                    assert!(problem.position.is_none_or(|(line, _)| (1..=lines).contains(&line)), "{problem}");
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Some((duration, written)) = fuzzing::duration(text) {
        assert_eq!(fuzzing::duration(&written).map(|(again, _)| again), Some(duration), "{text} became {written}");
    }
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    let example = include_str!("../../../examples/relay/relay.toml");
    // Also without its comments, so that mutations meet what is read.
    let bare: String = example
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .fold(String::new(), |all, line| all + line.split(" #").next().unwrap_or_default() + "\n");
    let shortened = bare.split("\n\n").filter(|part| !part.trim().is_empty()).map(|part| part.as_bytes().to_vec());
    let durations = ["250us", "3 h", "18446744073709551615us"].map(|text| text.as_bytes().to_vec());
    [example.into(), bare.clone().into_bytes()].into_iter().chain(shortened).chain(durations).collect()
}

/// A capture file.
pub(crate) fn capture(data: &[u8]) {
    let Ok((packets, _)) = fuzzing::capture(data) else { return };
    // The least that a packet takes: a simple packet block without bytes.
    assert!(packets.len() * 16 <= data.len(), "more packets than there is room for");
    for (_, bytes, payload) in &packets {
        assert!(bytes.len() <= data.len() && payload.is_none_or(|payload| payload.len() <= bytes.len()));
    }
    let most = Duration::from_nanos(u64::MAX);
    let written: Vec<_> = packets.iter().map(|(time, bytes, _)| (*time, *bytes)).collect();
    let file = fuzzing::write_capture(&written).expect("memory takes it");
    let (again, ended) = fuzzing::capture(&file).expect("a capture that was just written");
    assert_eq!(ended, None);
    let again: Vec<_> = again.iter().map(|(time, bytes, _)| (*time, *bytes)).collect();
    let expected: Vec<_> = written.iter().map(|(time, bytes)| ((*time).min(most), *bytes)).collect();
    assert_eq!(again, expected, "what was read is written as it was");

    for read in [true, false] {
        if let Some((went, came, file)) = fuzzing::replay(data, read) {
            assert_eq!(went as u64, came, "without plugins everything goes through");
            assert!(fuzzing::capture(&file).is_ok_and(|(packets, ended)| packets.len() == went && ended.is_none()));
        }
    }
}

pub(crate) fn capture_seeds() -> Vec<Vec<u8>> {
    let udp = |payload: &[u8]| {
        let length = (payload.len() as u16 + 28).to_be_bytes();
        let head = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        let length = (payload.len() as u16 + 8).to_be_bytes();
        [&head[..], &[0x13, 0x88, 0x13, 0x8a, length[0], length[1], 0, 0], payload].concat()
    };
    let mut packets: Vec<_> = (1..4).map(|number| udp(&valid::rtp(7, number, b"media"))).collect();
    packets.extend(valid::compounds().iter().take(2).map(|compound| udp(compound)));
    let timed: Vec<_> =
        packets.iter().enumerate().map(|(at, packet)| (Duration::from_millis(at as u64 * 20), &packet[..])).collect();
    let pcapng = fuzzing::write_capture(&timed).expect("memory takes it");
    let classic = |link: u32, before: &[u8]| {
        let mut file = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, link].map(u32::to_le_bytes).concat();
        for (at, packet) in packets.iter().enumerate() {
            let length = (packet.len() + before.len()) as u32;
            file.extend([at as u32, 7, length, length].map(u32::to_le_bytes).concat());
            file.extend([before, packet].concat());
        }
        file
    };
    let ethernet = [&[2; 12][..], &[8, 0]].concat();
    let cooked = [&[0; 14][..], &[8, 0]].concat();
    // A section of the other byte order, with an offset of its interface's time and a simple packet.
    let big = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    let offset = big(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 0x0001_0000, u32::MAX, u32::MAX, 28, 1, 36, 101 << 16, 0]);
    let offset = [offset, big(&[0x000e_0008, 0, 1_000_000, 0, 36])].concat();
    let simple = [offset, big(&[3, 16 + 40, 40]), packets[0][..40].to_vec(), big(&[16 + 40])].concat();
    vec![pcapng, classic(101, &[]), classic(1, &ethernet), classic(113, &cooked), simple]
}

/// A tape of everything that may be done to sessions: see `sandbar_tests::chaos`.
pub(crate) fn session(data: &[u8]) {
    use std::sync::OnceLock;

    use sandbar_tests::cast::Plugins;
    use sandbar_tests::chaos::Chaos;

    static PLUGINS: OnceLock<Plugins> = OnceLock::new();
    let plugins = PLUGINS.get_or_init(Plugins::load).clone();
    Chaos::new(plugins, Tape(Input::new(data))).run(data.len().min(120) / 2);
}

/// A byte for each choice. Where there are none left, every choice is the first.
struct Tape<'a>(Input<'a>);

impl rand::TryRng for Tape<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_be_bytes([self.0.byte(); 4]))
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_be_bytes([self.0.byte(); 8]))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill_with(|| self.0.byte());
        Ok(())
    }
}

pub(crate) fn session_seeds() -> Vec<Vec<u8>> {
    // Each multiplier goes through all bytes in another order.
    [37u8, 91, 155].map(|step| (0..120u16).map(|at| (at as u8).wrapping_mul(step) ^ (at >> 8) as u8).collect()).to_vec()
}
