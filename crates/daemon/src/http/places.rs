//! Places for connections, of which no one address has all, and some that are a probe's alone.
//!
//! 1. A client opens connections until there is no place. 2. The orchestrator's probe of `/healthz` gets
//! none, and restarts a daemon that is well. So one address has only a part of the places; and beyond them
//! there are a few, for a moment each, where nothing but a probe is answered: whatever else asks there is
//! told to come again, and hung up on.
//!
//! Two addresses can have all of both. So one address has a part of the places of probes as well; and where
//! there is no place, the oldest connection that has not said what it wants makes way, of the address that
//! has most. One that has said it is never hung up on for another.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections at once.
const PLACES: Bounds = Bounds { all: 1_024, of_one: 640 };
/// Connections beyond these, on which a probe is answered.
const PLACES_OF_PROBES: Bounds = Bounds { all: 128, of_one: 16 };

/// Bounds of one kind of place. Those of one address are many, as a proxy, behind which 500 event streams may
/// be, is one address as well.
struct Bounds {
    all: usize,
    of_one: usize,
}

/// The places of one daemon. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    ordinary: Kind,
    of_probes: Kind,
    connections: u64,
}

/// Places of one kind.
#[derive(Default)]
struct Kind {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Connections that have not said what they want, the oldest first: whose they are, and what hangs up on
    /// them.
    silent: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A place, which is given back when it is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
    address: IpAddr,
    is_of_probes: bool,
    hung_up: CancellationToken,
}

impl Places {
    /// Takes a place for a connection from `address`; `None` where even those of probes are taken.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        let address = network(address);
        let is_of_probes = !taken.ordinary.has_room(&PLACES, address);
        if is_of_probes && !taken.of_probes.has_room(&PLACES_OF_PROBES, address) {
            return None;
        }
        taken.connections += 1;
        let number = taken.connections;
        let hung_up = CancellationToken::new();
        let kind = taken.kind(is_of_probes);
        kind.all += 1;
        *kind.by_address.entry(address).or_default() += 1;
        kind.silent.insert(number, (address, hung_up.clone()));
        Some(Place { places: self.clone(), number, address, is_of_probes, hung_up })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn kind(&mut self, is_of_probes: bool) -> &mut Kind {
        if is_of_probes { &mut self.of_probes } else { &mut self.ordinary }
    }
}

impl Kind {
    /// Tells whether there is a place for `address`, after another connection has made way if need be.
    fn has_room(&mut self, bounds: &Bounds, address: IpAddr) -> bool {
        let own = self.of(address);
        let is_full_for_it = own >= bounds.of_one;
        if !is_full_for_it && self.all < bounds.all {
            return true;
        }
        // Of its own, where it has its part. Else of another that has more: none has to have few.
        let of = |from: &IpAddr| if is_full_for_it { *from == address } else { self.of(*from) > own };
        let may_go = self.silent.iter().filter(|(_, (from, _))| of(from));
        // The first of those that have as many is the oldest.
        let most = may_go.map(|(number, (from, _))| (self.of(*from), std::cmp::Reverse(*number))).max();
        let Some((_, std::cmp::Reverse(number))) = most else { return false };
        let Some((from, hung_up)) = self.silent.remove(&number) else { return false };
        hung_up.cancel();
        self.give_back(from);
        true
    }

    fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    fn give_back(&mut self, address: IpAddr) {
        self.all -= 1;
        if let Some(of_one) = self.by_address.get_mut(&address) {
            *of_one -= 1;
            if *of_one == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Place {
    /// Tells whether only a probe is answered here.
    pub(super) fn is_of_probes(&self) -> bool {
        self.is_of_probes
    }

    /// Ends when the connection is to be hung up on, for another one.
    pub(super) async fn hung_up(&self) {
        self.hung_up.cancelled().await;
    }

    /// Notes that the connection has said what it wants: from here on it makes way for none. `false` where it
    /// has made way already.
    pub(super) fn spoke(&self) -> bool {
        self.places.taken().kind(self.is_of_probes).silent.remove(&self.number);
        !self.hung_up.is_cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        let kind = taken.kind(self.is_of_probes);
        kind.silent.remove(&self.number);
        // What made way was given back then.
        if !self.hung_up.is_cancelled() {
            kind.give_back(self.address);
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

    /// Connections that have said what they want, as far as there are places for them.
    fn take(places: &Places, from: &str, count: usize) -> Vec<Place> {
        let taken: Vec<Place> = (0..count).filter_map(|_| places.take(address(from))).collect();
        assert!(taken.iter().all(Place::spoke));
        taken
    }

    /// Connections that say nothing.
    fn open(places: &Places, from: &str, count: usize) -> Vec<Place> {
        (0..count).filter_map(|_| places.take(address(from))).collect()
    }

    #[test]
    fn no_address_has_all_places_and_some_are_a_probes_alone() {
        let places = Places::default();
        let first: Vec<Place> = (0..2_000).flat_map(|_| take(&places, "192.0.2.1", 1)).collect();
        assert_eq!(first.iter().filter(|place| !place.is_of_probes()).count(), PLACES.of_one);
        assert_eq!(first.len(), PLACES.of_one + PLACES_OF_PROBES.of_one);
        let other = places.take(address("192.0.2.2")).expect("a place of another address");
        assert!(!other.is_of_probes());
        drop((first, other));
        // What is given back is there again, for each address.
        let _all = [
            take(&places, "2001:db8::1", PLACES.of_one),
            take(&places, "192.0.2.3", PLACES.all - PLACES.of_one),
        ];
        assert!(places.take(address("192.0.2.4")).is_some_and(|place| place.is_of_probes()));
    }

    /// 1. Two addresses have every place, and those of probes, with connections that say nothing. 2. The
    /// probe of a third one was hung up on, and a daemon that is well was restarted.
    #[test]
    fn who_says_nothing_makes_way_for_another_address_and_who_has_spoken_does_not() {
        let places = Places::default();
        let most = open(&places, "192.0.2.1", PLACES.of_one);
        let spoken = take(&places, "192.0.2.2", 100);
        let less = open(&places, "192.0.2.2", PLACES.all - PLACES.of_one - 100);
        let third = take(&places, "192.0.2.3", 2);
        assert!(third.iter().all(|place| !place.is_of_probes()));
        assert!(most[0].hung_up.is_cancelled() && most[1].hung_up.is_cancelled(), "the oldest two");
        let others = most[2..].iter().chain(&less).chain(&spoken).chain(&third);
        assert!(!others.into_iter().any(|place| place.hung_up.is_cancelled()));
        assert!(!most[0].spoke(), "too late: nothing of it is answered");
        // Its own make way for an address that has its part, and for one that has few none does.
        let own = places.take(address("192.0.2.1")).expect("a place");
        assert!(own.is_of_probes() && !less[0].hung_up.is_cancelled());
        drop((most, less));
        let taken = places.taken();
        assert_eq!((taken.ordinary.all, taken.ordinary.of(address("192.0.2.1"))), (102, 0));
    }

    #[test]
    fn places_of_probes_are_given_to_each_address_whatever_others_hold() {
        let places = Places::default();
        // All of them have spoken: none makes way, and the places of probes are all that is left.
        let _all = [take(&places, "192.0.2.1", PLACES.of_one), take(&places, "192.0.2.2", 384)];
        let addresses = PLACES_OF_PROBES.all / PLACES_OF_PROBES.of_one;
        let held: Vec<Vec<Place>> =
            (0..addresses).map(|n| open(&places, &format!("198.51.100.{n}"), 40)).collect();
        let hung_up = |held: &[Place]| held.iter().filter(|place| place.hung_up.is_cancelled()).count();
        for held in &held {
            assert_eq!((held.len(), hung_up(held)), (40, 40 - PLACES_OF_PROBES.of_one), "its own make way");
        }
        let probe = places.take(address("192.0.2.9")).expect("a place");
        assert!(probe.is_of_probes() && probe.spoke());
        assert_eq!(held.iter().map(|held| hung_up(held)).sum::<usize>(), addresses * 24 + 1);
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
