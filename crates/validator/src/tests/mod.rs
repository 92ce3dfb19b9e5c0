mod diff;
mod fields;
mod ledger;
mod print;
mod report;
mod ruling;
mod table;
mod verdict;
