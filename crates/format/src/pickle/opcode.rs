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
