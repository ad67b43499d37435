//! A network with loss between the relay and a subscriber.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sandbar_sdk::{Header, RtcpParts};

/// What went through.
#[derive(Default)]
pub struct Counts {
    pub media: AtomicU64,
    pub lost: AtomicU64,
    pub retransmissions: AtomicU64,
    /// Sequence numbers of the media.
    pub sent: Mutex<BTreeSet<u16>>,
    /// Those that the subscriber asked for, and those that were sent again. A receiver also asks for what it expects by now;
    /// what has not been sent yet nobody can send again.
    pub asked: Mutex<BTreeSet<u16>>,
    pub answered: Mutex<BTreeSet<u16>>,
}

impl Counts {
    /// What was asked for and has not been sent again.
    pub fn unanswered(&self) -> Vec<u16> {
        let (asked, answered) = (self.asked.lock().unwrap(), self.answered.lock().unwrap());
        asked.difference(&answered).copied().collect()
    }
}

/// Forwards RTP to the subscriber and loses some of the media, and RTCP both ways.
pub struct Link {
    pub counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The payload types of media and of its retransmissions.
pub const MEDIA: u8 = 96;
pub const RETRANSMISSION: u8 = 97;

impl Link {
    /// `rtp`: from the first port to the second. `rtcp`: the first port hears the relay and speaks to the second, the
    /// third hears the subscriber and speaks to the fourth.
    pub fn start(lose: u64, rtp: [u16; 2], rtcp: [u16; 4]) -> Self {
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut random = 0x5eed_u64;
        let seen = counts.clone();
        let media = forward(stop.clone(), rtp[0], rtp[1], move |bytes| {
            match bytes.get(1).map(|byte| byte & 0x7f) {
                Some(RETRANSMISSION) => {
                    let header = Header::parse(bytes).map_or(0, |header| header.len());
                    if let Some([high, low]) = bytes.get(header..header + 2) {
                        seen.answered.lock().unwrap().insert(u16::from_be_bytes([*high, *low]));
                    }
                    seen.retransmissions.fetch_add(1, Ordering::Relaxed)
                }
                Some(MEDIA) => {
                    seen.media.fetch_add(1, Ordering::Relaxed);
                    seen.sent.lock().unwrap().extend(Header::parse(bytes).map(|header| header.sequence_number()));
                    // A linear congruential generator (Knuth's MMIX), so that each run loses the same packets.
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if (random >> 33) % 100 < lose {
                        seen.lost.fetch_add(1, Ordering::Relaxed);
                        return false;
                    }
                    0
                }
                _ => 0,
            };
            true
        });
        let seen = counts.clone();
        let down = forward(stop.clone(), rtcp[0], rtcp[1], |_| true);
        let up = forward(stop.clone(), rtcp[2], rtcp[3], move |bytes| {
            let sent = seen.sent.lock().unwrap();
            seen.asked.lock().unwrap().extend(asked(bytes).into_iter().filter(|number| sent.contains(number)));
            true
        });
        Self { counts, stop, threads: vec![media, down, up] }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn forward(
    stop: Arc<AtomicBool>,
    from: u16,
    to: u16,
    mut keep: impl FnMut(&[u8]) -> bool + Send + 'static,
) -> JoinHandle<()> {
    let socket = UdpSocket::bind(("127.0.0.1", from)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], to));
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            if let Ok(length) = socket.recv(&mut bytes)
                && keep(&bytes[..length])
            {
                let _ = socket.send_to(&bytes[..length], to);
            }
        }
    })
}

/// What the generic NACKs of a compound ask for (RFC 4585, 6.2.1): a sequence number, and a bit for each of the 16 after it.
fn asked(compound: &[u8]) -> Vec<u16> {
    let nacks = RtcpParts::of(compound).filter(|part| part.bytes[1] == 205 && part.bytes[0] & 0x1f == 1);
    let pairs = nacks.flat_map(|part| part.bytes.get(12..).unwrap_or_default().as_chunks::<4>().0.to_vec());
    pairs
        .flat_map(|[p0, p1, b0, b1]| {
            let (first, bits) = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([b0, b1]));
            let more = (1..=16).filter(move |n| bits >> (n - 1) & 1 == 1).map(move |n| first.wrapping_add(n));
            std::iter::once(first).chain(more)
        })
        .collect()
}
