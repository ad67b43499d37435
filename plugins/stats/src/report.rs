//! The statistics as JSON, in the words of W3C's webrtc-stats.

use sandbar_sdk::serde::Serialize;
use sandbar_sdk::serde_json;

use crate::inbound::{Inbound, RemoteOutbound};
use crate::outbound::{Outbound, RemoteInbound};
use crate::stream::Stream;

/// Seconds from NTP's epoch to Unix's: 1900 to 1970 (RFC 868).
const UNIX_EPOCH: u64 = 2_208_988_800;

/// Milliseconds since 1970, as a DOMHighResTimeStamp, of a 64-bit NTP timestamp.
pub(crate) fn millis(ntp: u64) -> f64 {
    let seconds = (ntp >> 32) as f64 - UNIX_EPOCH as f64;
    let fraction = (ntp & 0xffff_ffff) as f64 / (1u64 << 32) as f64;
    (seconds + fraction) * 1000.0
}

/// What the four kinds of objects have in common: RTCStats and RTCRtpStreamStats.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "camelCase")]
struct Head {
    id: String,
    r#type: &'static str,
    timestamp: f64,
    ssrc: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

impl Head {
    fn new(r#type: &'static str, timestamp: f64, stream: &Stream) -> Self {
        Self { id: id(r#type, stream), r#type, timestamp, ssrc: stream.ssrc, kind: stream.kind }
    }
}

const INBOUND: &str = "inbound-rtp";
const OUTBOUND: &str = "outbound-rtp";
const REMOTE_INBOUND: &str = "remote-inbound-rtp";
const REMOTE_OUTBOUND: &str = "remote-outbound-rtp";

fn id(r#type: &str, stream: &Stream) -> String {
    format!("{}-{}", r#type, stream.ssrc)
}

/// RTCInboundRtpStreamStats, as far as a network sees it.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "camelCase")]
struct InboundRtp<'a> {
    #[serde(flatten)]
    head: Head,
    track_identifier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_id: Option<String>,
    packets_received: u64,
    packets_lost: i64,
    jitter: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_packet_received_timestamp: Option<f64>,
    header_bytes_received: u64,
    bytes_received: u64,
    nack_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fir_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pli_count: Option<u64>,
    #[serde(flatten)]
    retransmissions: Option<RetransmissionsReceived>,
    #[serde(flatten)]
    repair: Option<RepairReceived>,
}

/// Only where RTX has been negotiated: else retransmissions cannot be told from other packets.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "camelCase")]
struct RetransmissionsReceived {
    retransmitted_packets_received: u64,
    retransmitted_bytes_received: u64,
    rtx_ssrc: u32,
}

/// Only where repair packets have an SSRC of their own.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "camelCase")]
struct RepairReceived {
    fec_packets_received: u64,
    fec_bytes_received: u64,
    fec_ssrc: u32,
}

/// RTCRemoteOutboundRtpStreamStats.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "camelCase")]
struct RemoteOutboundRtp {
    #[serde(flatten)]
    head: Head,
    local_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_timestamp: Option<f64>,
    packets_sent: u32,
    bytes_sent: u32,
    reports_sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_time: Option<f64>,
    total_round_trip_time: f64,
    round_trip_time_measurements: u64,
}

/// RTCOutboundRtpStreamStats, as far as a network sees it.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "camelCase")]
struct OutboundRtp {
    #[serde(flatten)]
    head: Head,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_id: Option<String>,
    packets_sent: u64,
    bytes_sent: u64,
    header_bytes_sent: u64,
    retransmitted_packets_sent: u64,
    retransmitted_bytes_sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtx_ssrc: Option<u32>,
    nack_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fir_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pli_count: Option<u64>,
}

/// RTCRemoteInboundRtpStreamStats.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "camelCase")]
struct RemoteInboundRtp {
    #[serde(flatten)]
    head: Head,
    local_id: String,
    packets_received: u64,
    packets_lost: i32,
    jitter: f64,
    fraction_lost: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_time: Option<f64>,
    total_round_trip_time: f64,
    round_trip_time_measurements: u64,
}

/// Writes the objects of streams: one about this side of each, and one about the peer's once it has reported.
pub(crate) struct Report<'a> {
    /// The wall clock of an instant in nanoseconds of the host's clock, in milliseconds since 1970.
    pub(crate) clock: &'a dyn Fn(u64) -> f64,
    pub(crate) now: f64,
    pub(crate) objects: Vec<String>,
}

impl Report<'_> {
    fn put(&mut self, object: &impl Serialize) {
        // Numbers and strings under fixed keys: there is nothing that JSON cannot say.
        self.objects.extend(serde_json::to_string(object));
    }

    pub(crate) fn inbound(&mut self, stream: &Stream, inbound: &Inbound) {
        let remote = inbound.remote.as_ref();
        let asked = inbound.asked;
        self.put(&InboundRtp {
            head: Head::new(INBOUND, self.now, stream),
            track_identifier: &stream.id,
            remote_id: remote.map(|_| id(REMOTE_OUTBOUND, stream)),
            packets_received: inbound.received.packets,
            packets_lost: inbound.lost(),
            jitter: inbound.jitter.seconds(),
            last_packet_received_timestamp: inbound.last.map(self.clock),
            header_bytes_received: inbound.received.headers,
            bytes_received: inbound.received.payload,
            nack_count: asked.nack,
            fir_count: stream.unless_audio(asked.fir),
            pli_count: stream.unless_audio(asked.pli),
            retransmissions: stream.rtx.map(|rtx_ssrc| RetransmissionsReceived {
                retransmitted_packets_received: inbound.retransmitted.packets,
                retransmitted_bytes_received: inbound.retransmitted.payload,
                rtx_ssrc,
            }),
            repair: stream.fec.map(|fec_ssrc| RepairReceived {
                fec_packets_received: inbound.repair.packets,
                fec_bytes_received: inbound.repair.payload,
                fec_ssrc,
            }),
        });
        if let Some(remote) = remote {
            self.remote_outbound(stream, remote);
        }
    }

    fn remote_outbound(&mut self, stream: &Stream, remote: &RemoteOutbound) {
        self.put(&RemoteOutboundRtp {
            head: Head::new(REMOTE_OUTBOUND, (self.clock)(remote.at), stream),
            local_id: id(INBOUND, stream),
            // A sender without a clock says 0 (RFC 3550, 6.4.1).
            remote_timestamp: (remote.ntp != 0).then(|| millis(remote.ntp)),
            packets_sent: remote.packets,
            bytes_sent: remote.octets,
            reports_sent: remote.reports,
            round_trip_time: remote.round_trips.latest,
            total_round_trip_time: remote.round_trips.total,
            round_trip_time_measurements: remote.round_trips.measurements,
        });
    }

    pub(crate) fn outbound(&mut self, stream: &Stream, outbound: &Outbound) {
        let remote = outbound.remote.as_ref();
        let asked = outbound.asked;
        self.put(&OutboundRtp {
            head: Head::new(OUTBOUND, self.now, stream),
            remote_id: remote.map(|_| id(REMOTE_INBOUND, stream)),
            packets_sent: outbound.sent.packets,
            bytes_sent: outbound.sent.payload,
            header_bytes_sent: outbound.sent.headers,
            retransmitted_packets_sent: outbound.retransmitted.packets,
            retransmitted_bytes_sent: outbound.retransmitted.payload,
            rtx_ssrc: stream.rtx,
            nack_count: asked.nack,
            fir_count: stream.unless_audio(asked.fir),
            pli_count: stream.unless_audio(asked.pli),
        });
        if let Some(remote) = remote {
            self.remote_inbound(stream, remote);
        }
    }

    fn remote_inbound(&mut self, stream: &Stream, remote: &RemoteInbound) {
        let jitter = f64::from(remote.jitter) / f64::from(stream.clock_rate);
        self.put(&RemoteInboundRtp {
            head: Head::new(REMOTE_INBOUND, (self.clock)(remote.at), stream),
            local_id: id(OUTBOUND, stream),
            packets_received: remote.received,
            packets_lost: remote.lost,
            jitter: if stream.clock_rate == 0 { 0.0 } else { jitter },
            fraction_lost: f64::from(remote.fraction_lost) / 256.0,
            round_trip_time: remote.round_trips.latest,
            total_round_trip_time: remote.round_trips.total,
            round_trip_time_measurements: remote.round_trips.measurements,
        });
    }

    /// The objects as lists, each of at most `bytes` bytes unless it is one object alone.
    pub(crate) fn documents(&self, bytes: usize) -> Vec<String> {
        let mut documents = Vec::new();
        let mut document = String::from("[");
        for object in &self.objects {
            if document.len() > 1 && document.len() + object.len() + 2 > bytes {
                documents.push(std::mem::replace(&mut document, String::from("[")) + "]");
            }
            if document.len() > 1 {
                document.push(',');
            }
            document.push_str(object);
        }
        documents.push(document + "]");
        documents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_868_the_epochs_are_seventy_years_apart() {
        assert_eq!(millis(UNIX_EPOCH << 32), 0.0);
        assert_eq!(millis(3_913_056_000 << 32 | 1 << 31), 1_704_067_200_500.0);
    }

    #[test]
    fn a_document_is_no_larger_than_it_may_be() {
        let report = Report { clock: &|_| 0.0, now: 0.0, objects: vec!["{}".to_owned(); 10] };
        assert_eq!(report.documents(1000), ["[{},{},{},{},{},{},{},{},{},{}]"]);
        assert_eq!(report.documents(10), ["[{},{},{}]", "[{},{},{}]", "[{},{},{}]", "[{}]"]);
        assert_eq!(report.documents(1).len(), 10);
        assert_eq!(Report { objects: Vec::new(), ..report }.documents(9), ["[]"]);
    }
}
