//! Places for connections, of which no one address has all, and some that are a probe's alone.
//!
//! 1. A client opens connections until there is no place. 2. The orchestrator's probe of `/healthz` gets
//! none, and restarts a daemon that is well. So one address has only a part of the places; and beyond them
//! there are a few, for a moment each, where nothing but a probe is answered: whatever else asks there is
//! told to come again, and hung up on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections at once.
const PLACES: usize = 1_024;
/// Connections of one address: a proxy's, behind which 500 event streams may be, is one address as well.
const PLACES_OF_ONE: usize = 640;
/// Connections beyond these, on which a probe is answered.
const PLACES_OF_PROBES: usize = 128;

/// The places of one daemon. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    of_probes: usize,
}

/// A place, which is given back when it is dropped.
pub(super) struct Place {
    places: Places,
    /// The address; `None` for a place that is a probe's.
    of: Option<IpAddr>,
}

impl Places {
    /// Takes a place for a connection from `address`; `None` where even those of probes are taken.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        let of_one = taken.by_address.get(&address).copied().unwrap_or_default();
        let of = (taken.all < PLACES && of_one < PLACES_OF_ONE).then_some(address);
        match of {
            Some(address) => {
                taken.all += 1;
                *taken.by_address.entry(address).or_default() += 1;
            }
            None if taken.of_probes < PLACES_OF_PROBES => taken.of_probes += 1,
            None => return None,
        }
        Some(Place { places: self.clone(), of })
    }
}

impl Place {
    /// Tells whether only a probe is answered here.
    pub(super) fn is_of_probes(&self) -> bool {
        self.of.is_none()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = self.of else {
            taken.of_probes -= 1;
            return;
        };
        taken.all -= 1;
        if let Some(of_one) = taken.by_address.get_mut(&address) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

/// Returns the address for which places are counted: a machine has as many addresses of version 6 as it
/// likes, in a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn no_address_has_all_places_and_some_are_a_probes_alone() {
        let places = Places::default();
        let take = |from: &str, count: usize| -> Vec<Place> {
            (0..count).filter_map(|_| places.take(address(from))).collect()
        };
        let first = take("192.0.2.1", 2_000);
        assert_eq!(first.iter().filter(|place| !place.is_of_probes()).count(), PLACES_OF_ONE);
        assert_eq!(first.len(), PLACES_OF_ONE + PLACES_OF_PROBES);
        let other = places.take(address("192.0.2.2")).expect("a place of another address");
        assert!(!other.is_of_probes());
        drop((first, other));
        // What is given back is there again, for each address.
        let _all = [take("2001:db8::1", PLACES_OF_ONE), take("192.0.2.3", PLACES - PLACES_OF_ONE)];
        assert!(places.take(address("192.0.2.4")).is_some_and(|place| place.is_of_probes()));
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
