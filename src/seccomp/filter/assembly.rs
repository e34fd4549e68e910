//! A program put together from its end: jumps only go forward, so whatever one leads to is there
//! already and its distance is known.

use crate::seccomp::profile::action::Action;
use crate::sys::instruction::{Instruction, JUMP, RETURN};

/// An instruction that can be jumped to, known by how many follow it, itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::seccomp) struct Label(usize);

/// A program growing from its end.
#[derive(Default)]
pub(in crate::seccomp) struct Assembly {
    reversed: Vec<Instruction>,
    /// The last place of each answer.
    answers: Vec<(Action, Label)>,
}

impl Assembly {
    /// Puts an instruction before all others.
    pub(in crate::seccomp) fn prepend(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len())
    }

    /// Puts a piece of code before all others.
    pub(in crate::seccomp) fn prepend_all(&mut self, code: impl DoubleEndedIterator<Item = Instruction>) -> Label {
        self.reversed.extend(code.rev());
        Label(self.reversed.len())
    }

    /// An answer right here, even if there is one further on: some code falls into it.
    pub(in crate::seccomp) fn answer_here(&mut self, action: Action) -> Label {
        let label = self.prepend(Instruction::plain(RETURN, action.to_kernel()));
        self.answers.retain(|(known, _)| *known != action);
        self.answers.push((action, label));
        label
    }

    /// An answer, which may be one that is within reach already.
    pub(in crate::seccomp) fn answer(&mut self, action: Action) -> Label {
        // Two instructions may come between: the comparison's own jumps.
        let near =
            self.answers.iter().find(|(known, label)| *known == action && self.distance(*label) + 2 <= u8::MAX.into());
        near.map(|(_, label)| *label).unwrap_or_else(|| self.answer_here(action))
    }

    /// Puts a comparison before all others that leads to one of two places, however far they are.
    pub(in crate::seccomp) fn branch(&mut self, code: u16, k: u32, holds: Label, fails: Label) -> Label {
        if holds == fails {
            return holds;
        }
        let fails = self.within_reach(fails, 1);
        let holds = self.within_reach(holds, 0);
        let (jt, jf) = (self.distance(holds) as u8, self.distance(fails) as u8);
        self.prepend(Instruction { code, jt, jf, k })
    }

    /// The place itself, or a jump to it where a comparison cannot reach it once `more`
    /// instructions were put before.
    fn within_reach(&mut self, label: Label, more: usize) -> Label {
        let distance = self.distance(label);
        if distance + more <= u8::MAX.into() {
            return label;
        }
        self.prepend(Instruction::plain(JUMP, distance as u32))
    }

    /// How many instructions lie between the next one to be put and a place.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0
    }

    /// How long the program is so far.
    pub(in crate::seccomp) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The program; it begins with `entry`, which must be what was put last, or is jumped to.
    pub(in crate::seccomp) fn finish(mut self, entry: Label, prologue: &[Instruction]) -> Vec<Instruction> {
        let distance = self.distance(entry);
        if distance > 0 {
            self.prepend(Instruction::plain(JUMP, distance as u32));
        }
        self.prepend_all(prologue.iter().copied());
        self.reversed.reverse();
        self.reversed
    }
}
