//! RTCP that concerns the relay itself: requests for key frames on their way to a publisher, and what a publisher says
//! about its streams on its way to subscribers. Everything else is the plugins' business.

/// RTCP packet types (RFC 3550, 12.1; RFC 4585, 6.1) that the relay looks at.
const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const PAYLOAD_FEEDBACK: u8 = 206;
/// Feedback formats (RFC 4585, 6.3.1; RFC 5104, 4.3.1).
const PLI: u8 = 1;
const FIR: u8 = 4;

/// Why a key frame is asked for, which is also how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Picture loss (RFC 4585, 6.3.1).
    Pli,
    /// Full intra request (RFC 5104, 4.3.1): somebody joins.
    Fir,
}

/// A packet of a compound that concerns the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A key frame of this source is asked for.
    KeyFrame(Request, u32),
    /// A sender report: its first 28 bytes, which say what it is about without report blocks.
    SenderReport(u32, &'a [u8; 28]),
    /// What a source is called: one chunk of an SDES packet, padded as it was.
    Description(u32, &'a [u8]),
    /// A source leaves.
    Bye(u32),
}

/// Walks a compound. What is malformed ends the walk or is passed over; the host has counted it.
pub(crate) fn items(compound: &[u8], mut found: impl FnMut(Item<'_>)) {
    let mut rest = compound;
    while let Some((packet, after)) = split(rest) {
        rest = after;
        let count = packet[0] & 0x1f;
        match packet[1] {
            SENDER_REPORT => {
                if let Some(head) = packet.first_chunk::<28>() {
                    found(Item::SenderReport(word(head, 4), head));
                }
            }
            SOURCE_DESCRIPTION => chunks(&packet[4..], count, &mut found),
            GOODBYE => {
                packet[4..].chunks_exact(4).take(usize::from(count)).for_each(|ssrc| found(Item::Bye(word(ssrc, 0))));
            }
            PAYLOAD_FEEDBACK if count == PLI && packet.len() >= 12 => {
                found(Item::KeyFrame(Request::Pli, word(packet, 8)));
            }
            PAYLOAD_FEEDBACK if count == FIR && packet.len() >= 12 => {
                packet[12..].chunks_exact(8).for_each(|entry| found(Item::KeyFrame(Request::Fir, word(entry, 0))));
            }
            _ => {}
        }
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_, _, high, low, ..] = *bytes else { return None };
    bytes.split_at_checked(4 + 4 * usize::from(u16::from_be_bytes([high, low])))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The chunks of an SDES packet (RFC 3550, 6.5): an SSRC and items, ended by a zero byte and padded to a word.
fn chunks(mut rest: &[u8], count: u8, found: &mut impl FnMut(Item<'_>)) {
    for _ in 0..count {
        let mut end = 4;
        loop {
            match (rest.get(end), rest.get(end + 1)) {
                (Some(0), _) => break,
                (Some(_), Some(length)) => end += 2 + usize::from(*length),
                _ => return,
            }
        }
        let Some((chunk, after)) = rest.split_at_checked((end + 4) & !3) else { return };
        found(Item::Description(word(chunk, 0), chunk));
        rest = after;
    }
}

/// A request for a key frame of `media`. `sequence` counts full intra requests for it.
pub(crate) fn request(request: Request, sender: u32, media: u32, sequence: u8) -> Vec<u8> {
    let mut packet = match request {
        Request::Pli => vec![0x80 | PLI, PAYLOAD_FEEDBACK, 0, 2],
        Request::Fir => vec![0x80 | FIR, PAYLOAD_FEEDBACK, 0, 4],
    };
    packet.extend_from_slice(&sender.to_be_bytes());
    match request {
        Request::Pli => packet.extend_from_slice(&media.to_be_bytes()),
        // The media source of the head is unused (RFC 5104, 4.3.1.2).
        Request::Fir => {
            packet.extend_from_slice(&[0; 4]);
            packet.extend_from_slice(&media.to_be_bytes());
            packet.extend_from_slice(&[sequence, 0, 0, 0]);
        }
    }
    packet
}

/// Appends a sender report without report blocks: those are about the publisher's own reception.
pub(crate) fn put_sender_report(out: &mut Vec<u8>, head: &[u8; 28]) {
    out.extend_from_slice(&[0x80, SENDER_REPORT, 0, 6]);
    out.extend_from_slice(&head[4..]);
}

/// Appends an SDES packet with one chunk.
pub(crate) fn put_description(out: &mut Vec<u8>, chunk: &[u8]) {
    let [high, low] = ((chunk.len() / 4) as u16).to_be_bytes();
    out.extend_from_slice(&[0x81, SOURCE_DESCRIPTION, high, low]);
    out.extend_from_slice(chunk);
}

/// Appends a BYE of one source.
pub(crate) fn put_bye(out: &mut Vec<u8>, ssrc: u32) {
    out.extend_from_slice(&[0x81, GOODBYE, 0, 1]);
    out.extend_from_slice(&ssrc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(compound: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        items(compound, |item| {
            found.push(match item {
                Item::KeyFrame(request, ssrc) => format!("{request:?} {ssrc}"),
                Item::SenderReport(ssrc, _) => format!("sr {ssrc}"),
                Item::Description(ssrc, chunk) => format!("sdes {ssrc} {}", chunk.len()),
                Item::Bye(ssrc) => format!("bye {ssrc}"),
            });
        });
        found
    }

    #[test]
    fn what_is_built_is_found_again() {
        let mut compound = Vec::new();
        let mut head = [0; 28];
        head[4..8].copy_from_slice(&7_u32.to_be_bytes());
        put_sender_report(&mut compound, &head);
        // SSRC, CNAME of three bytes, end and padding: 4 + 5 + 3.
        put_description(&mut compound, &[0, 0, 0, 7, 1, 3, b'a', b'b', b'c', 0, 0, 0]);
        compound.extend(request(Request::Pli, 1, 8, 0));
        compound.extend(request(Request::Fir, 1, 9, 3));
        put_bye(&mut compound, 7);
        assert_eq!(walk(&compound), ["sr 7", "sdes 7 12", "Pli 8", "Fir 9", "bye 7"]);
    }

    #[test]
    fn a_fir_may_name_several_sources_and_a_bye_too() {
        let mut fir = vec![0x84, 206, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0];
        for ssrc in [5_u32, 6] {
            fir.extend_from_slice(&ssrc.to_be_bytes());
            fir.extend_from_slice(&[1, 0, 0, 0]);
        }
        fir.extend_from_slice(&[0x82, 203, 0, 2, 0, 0, 0, 5, 0, 0, 0, 6]);
        assert_eq!(walk(&fir), ["Fir 5", "Fir 6", "bye 5", "bye 6"]);
    }

    #[test]
    fn lies_about_lengths_and_counts_find_nothing_that_is_not_there() {
        assert!(walk(&[0x81, 206, 0, 1, 0, 0, 0, 1]).is_empty());
        assert!(walk(&[0x9f, 203, 0, 0]).is_empty());
        assert!(walk(&[0x81, 203, 0xff, 0xff, 0, 0, 0, 1]).is_empty());
        // An SDES item that runs over the packet's end, and a chunk without an end.
        assert!(walk(&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 200, b'a', b'b']).is_empty());
        assert!(walk(&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, b'a', b'b']).is_empty());
        assert!(walk(&[0x80]).is_empty());
    }
}
