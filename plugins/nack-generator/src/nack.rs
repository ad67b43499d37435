//! Generic NACKs on the wire (RFC 4585, 6.2.1).

/// Version 2, feedback message type 1.
const FIRST_BYTE: u8 = 0x80 | 1;
/// Transport-layer feedback.
const RTPFB: u8 = 205;
/// Header and both SSRCs.
const HEAD: usize = 12;
/// Packet id and bit mask of the 16 that follow it.
const ENTRY: usize = 4;

/// Appends the requests for `numbers`, which are in the order of their stream, as packets of at most `max_bytes`.
/// Returns how many packets.
pub(crate) fn write(sender: u32, media: u32, numbers: &[u16], max_bytes: usize, out: &mut Vec<u8>) -> u64 {
    let max_entries = (max_bytes.saturating_sub(HEAD) / ENTRY).max(1);
    let mut packets = 0;
    let mut start = out.len();
    let mut entries = 0;
    let mut rest = numbers;
    while let [packet_id, following @ ..] = rest {
        if entries == max_entries {
            close(&mut out[start..], entries);
            entries = 0;
        }
        if entries == 0 {
            start = out.len();
            packets += 1;
            out.extend_from_slice(&[FIRST_BYTE, RTPFB, 0, 0]);
            out.extend_from_slice(&sender.to_be_bytes());
            out.extend_from_slice(&media.to_be_bytes());
        }
        let mut mask = 0u16;
        rest = following;
        while let [number, following @ ..] = rest {
            let bit = number.wrapping_sub(*packet_id).wrapping_sub(1);
            if bit >= 16 {
                break;
            }
            mask |= 1 << bit;
            rest = following;
        }
        out.extend_from_slice(&packet_id.to_be_bytes());
        out.extend_from_slice(&mask.to_be_bytes());
        entries += 1;
    }
    close(&mut out[start..], entries);
    packets
}

/// Fills in the length, in words less one.
fn close(packet: &mut [u8], entries: usize) {
    if let Some(length) = packet.get_mut(2..4) {
        length.copy_from_slice(&((HEAD / 4 - 1 + entries) as u16).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::rtcp::packet;
    use sandbar_sdk::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

    use super::*;

    const MAX: usize = 1200;

    /// What another implementation reads: the numbers of each packet.
    fn read(bytes: &[u8]) -> Vec<Vec<u16>> {
        let packets = packet::unmarshal(&mut &bytes[..]).unwrap();
        packets
            .iter()
            .map(|packet| {
                let nack = packet.as_any().downcast_ref::<TransportLayerNack>().unwrap();
                assert_eq!((nack.sender_ssrc, nack.media_ssrc), (1, 2));
                nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect()
            })
            .collect()
    }

    #[test]
    fn rfc_4585_6_2_1_one_packet_and_the_following_sixteen_share_an_entry() {
        let mut out = Vec::new();
        assert_eq!(write(1, 2, &[10, 11, 26, 27], MAX, &mut out), 1);
        assert_eq!(out, [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 10, 0x80, 0x01, 0, 27, 0, 0]);
        assert_eq!(read(&out), [[10, 11, 26, 27]]);
    }

    #[test]
    fn rfc_4585_6_2_1_entries_span_the_wrap() {
        let mut out = Vec::new();
        write(1, 2, &[65_530, 65_535, 0, 10, 11], MAX, &mut out);
        assert_eq!(out.len(), HEAD + 2 * ENTRY);
        assert_eq!(read(&out), [[65_530, 65_535, 0, 10, 11]]);
    }

    #[test]
    fn nothing_missing_is_no_packet() {
        let mut out = vec![9];
        assert_eq!(write(1, 2, &[], MAX, &mut out), 0);
        assert_eq!(out, [9]);
    }

    #[test]
    fn no_packet_exceeds_its_size_and_no_request_is_lost() {
        let numbers: Vec<u16> = (0..1000).map(|n| n * 40).collect();
        for max in [HEAD + ENTRY, 100, 333, MAX] {
            let mut out = Vec::new();
            let packets = write(1, 2, &numbers, max, &mut out);
            let lengths: Vec<_> = sandbar_sdk::RtcpParts::of(&out).map(|part| part.bytes.len()).collect();
            assert_eq!(lengths.len() as u64, packets);
            assert!(lengths.iter().all(|length| *length <= max), "{lengths:?}");
            assert_eq!(read(&out).concat(), numbers);
        }
    }

    #[test]
    fn a_budget_too_small_for_any_packet_still_asks() {
        let mut out = Vec::new();
        assert_eq!(write(1, 2, &[1, 50], 3, &mut out), 2);
        assert_eq!(read(&out), [[1], [50]]);
    }
}
