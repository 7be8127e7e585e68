//! The WebSocket frames that wait until the kernel accepts them.

use std::io::Cursor;

use bytes::{Buf, Bytes};
use tungstenite::protocol::frame::FrameHeader;

/// The bytes of frames that are not sent yet.
///
/// They begin with the rest of a frame whose beginning is sent; whole frames follow.
#[derive(Debug, Default)]
pub struct UnsentFrames {
    bytes: Bytes,
    /// The length of the rest of a frame at the beginning of `bytes`; 0 if a whole frame begins there.
    rest_of_frame: usize,
}

impl UnsentFrames {
    /// Keeps the part of whole frames after the bytes that were sent.
    pub fn after_sending(frames: &[u8], sent: usize) -> Self {
        // The usual case, in which the frames need not be parsed.
        if sent == frames.len() {
            return Self::default();
        }
        Self { bytes: Bytes::copy_from_slice(&frames[sent..]), rest_of_frame: rest_of_frame(frames, 0, sent) }
    }

    /// Returns whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes to send.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes bytes that were sent.
    pub fn advance(&mut self, sent: usize) {
        self.rest_of_frame = rest_of_frame(&self.bytes, self.rest_of_frame, sent);
        self.bytes.advance(sent);
    }

    /// Drops the frames of which nothing is sent, and adds a last frame.
    pub fn replace_by(&mut self, last_frame: &[u8]) {
        self.bytes = [&self.bytes[..self.rest_of_frame], last_frame].concat().into();
    }
}

/// Returns how many bytes after the first `sent` ones belong to a frame that begins among these.
///
/// `next_frame` is the position of the first frame that begins in `bytes`.
fn rest_of_frame(bytes: &[u8], mut next_frame: usize, sent: usize) -> usize {
    while next_frame < sent {
        next_frame += frame_length(&bytes[next_frame..]);
    }
    next_frame - sent
}

/// Returns the length of the frame at the beginning of the bytes, which are whole frames.
fn frame_length(bytes: &[u8]) -> usize {
    match FrameHeader::parse(&mut Cursor::new(bytes)) {
        Ok(Some((header, payload))) => {
            let length = usize::try_from(payload).unwrap_or(usize::MAX).saturating_add(header.len(payload));
            length.min(bytes.len())
        }
        // Only whole frames are written, so this is never reached.
        Ok(None) | Err(_) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};

    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame::message(vec![b'x'; length], OpCode::Data(Data::Text), true).format(&mut bytes).unwrap();
        bytes
    }

    /// The lengths have the three forms of a frame's header (RFC 6455, section 5.2).
    #[test]
    fn replaced_frames_keep_only_the_rest_of_the_frame_in_flight() {
        let frames = [frame(0), frame(5), frame(200), frame(70_000), frame(1)];
        let all = frames.concat();
        let last = frame(3);
        let boundaries: Vec<usize> = frames
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .collect();
        for sent in [0, 1, 2, 3, 8, 9, 10, 12, 13, 200, 213, 214, 215, 224, 60_000, all.len() - 1, all.len()] {
            let end = boundaries.iter().copied().find(|end| *end >= sent).unwrap();
            let end = if sent == 0 { 0 } else { end };
            let expected = [&all[sent..end], &last].concat();
            let mut at_once = UnsentFrames::after_sending(&all, sent);
            at_once.replace_by(&last);
            assert_eq!(at_once.as_slice(), expected, "{sent}");
            let mut in_steps = UnsentFrames::after_sending(&all, 0);
            (0..sent).for_each(|_| in_steps.advance(1));
            in_steps.replace_by(&last);
            assert_eq!(in_steps.as_slice(), expected, "{sent} in steps");
        }
    }
}
