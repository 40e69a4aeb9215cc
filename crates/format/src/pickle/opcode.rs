//! The opcodes of pickle protocols 0 to 5.

/// How an opcode's argument is written behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// None.
    None,
    /// This many bytes.
    Fixed(usize),
    /// Up to a line feed.
    Line,
    /// Two lines.
    TwoLines,
    /// A little-endian length of this many bytes, then as many bytes.
    Counted(usize),
}

/// The arguments of all opcodes.
static ARGUMENTS: [Option<Argument>; 256] = {
    let mut all = [None; 256];
    let mut opcode = 0;
    while opcode < 256 {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "the loop ends at 256"
        )]
        {
            all[opcode] = argument_of(opcode as u8);
        }
        opcode += 1;
    }
    all
};

/// The argument of an opcode; none for a byte that is no opcode.
pub(crate) fn argument(opcode: u8) -> Option<Argument> {
    ARGUMENTS.get(usize::from(opcode)).copied().flatten()
}

const fn argument_of(opcode: u8) -> Option<Argument> {
    Some(match opcode {
        b'F' | b'I' | b'L' | b'P' | b'S' | b'V' | b'g' | b'p' => Argument::Line,
        b'c' | b'i' => Argument::TwoLines,
        b'K' | b'h' | b'q' | 0x80 | 0x82 => Argument::Fixed(1),
        b'M' | 0x83 => Argument::Fixed(2),
        b'J' | b'j' | b'r' | 0x84 => Argument::Fixed(4),
        b'G' | 0x95 => Argument::Fixed(8),
        b'U' | b'C' | 0x8a | 0x8c => Argument::Counted(1),
        b'T' | b'X' | b'B' | 0x8b => Argument::Counted(4),
        0x8d | 0x8e | 0x96 => Argument::Counted(8),
        b'('
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'd'
        | b'}'
        | b'e'
        | b'l'
        | b']'
        | b'o'
        | b's'
        | b't'
        | b')'
        | b'u'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x94
        | 0x97
        | 0x98 => Argument::None,
        _ => return None,
    })
}

/// The opcode at a place, its argument, and where the next one stands; none where it is none or
/// cut off. Of two lines the argument is the second one, of counted bytes it is these.
pub(crate) fn read(data: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let opcode = *data.get(at)?;
    let start = at + 1;
    let (start, end, next) = match argument(opcode)? {
        Argument::None => (start, start, start),
        Argument::Fixed(len) => (start, start + len, start + len),
        Argument::Line => {
            let end = line_end(data, start)?;
            (start, end, end + 1)
        }
        Argument::TwoLines => {
            let start = line_end(data, start)? + 1;
            let end = line_end(data, start)?;
            (start, end, end + 1)
        }
        Argument::Counted(width) => {
            let start = start + width;
            let len = little_endian(data.get(at + 1..start)?);
            let end = start.checked_add(len)?;
            (start, end, end)
        }
    };
    Some((opcode, data.get(start..end)?, next))
}

fn line_end(data: &[u8], at: usize) -> Option<usize> {
    let rest = data.get(at..)?;
    Some(at + rest.iter().position(|byte| *byte == b'\n')?)
}

/// A little-endian number; the greatest where it does not fit.
pub(crate) fn little_endian(bytes: &[u8]) -> usize {
    match *bytes {
        [byte] => return usize::from(byte),
        [a, b, 0, 0] => return usize::from(u16::from_le_bytes([a, b])),
        _ => {}
    }
    let number = bytes.iter().rev().try_fold(0_usize, |number, byte| {
        number
            .checked_mul(256)
            .map(|number| number | usize::from(*byte))
    });
    number.unwrap_or(usize::MAX)
}

/// A number written as a line of text; none where it is none, or does not fit.
pub(crate) fn number_of(line: &[u8]) -> Option<usize> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}
