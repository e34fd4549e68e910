//! The table of user and group ids; inodes name an id by its place in it.

use std::collections::HashMap;

use super::error::Fault;

/// The superblock counts the ids in 16 bits.
const LIMIT: usize = 65535;

/// Collects ids in the order in which they first appear.
#[derive(Debug, Default)]
pub(super) struct IdTable {
    /// Id to place. Only looked up, never iterated: its order is random.
    places: HashMap<u32, u16>,
    bytes: Vec<u8>,
}

impl IdTable {
    /// The place of an id, adding it if it is new.
    pub(super) fn place(&mut self, id: u32) -> Result<u16, Fault> {
        if let Some(place) = self.places.get(&id) {
            return Ok(*place);
        }
        if self.places.len() == LIMIT {
            return Err(Fault::TooManyIds);
        }
        let place = self.places.len() as u16;
        self.places.insert(id, place);
        self.bytes.extend(id.to_le_bytes());
        Ok(place)
    }

    /// How many ids there are.
    pub(super) fn count(&self) -> u16 {
        self.places.len() as u16
    }

    /// The table's content.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_one_place() {
        let mut table = IdTable::default();
        let places: Vec<u16> = [0, 3_000_000, 0, 1000, 3_000_000].map(|id| table.place(id).unwrap()).to_vec();
        assert_eq!(places, [0, 1, 0, 2, 1]);
        assert_eq!(table.count(), 3);
        assert_eq!(table.bytes()[4..8], 3_000_000_u32.to_le_bytes());
    }

    #[test]
    fn the_65536th_id_is_refused() {
        let mut table = IdTable::default();
        for id in 0..65535 {
            table.place(id).unwrap();
        }
        assert!(matches!(table.place(65535), Err(Fault::TooManyIds)));
        assert_eq!(table.place(65534).unwrap(), 65534);
        assert_eq!(table.count(), 65535);
    }
}
