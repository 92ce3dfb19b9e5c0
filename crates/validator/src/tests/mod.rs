mod diff;
mod report;
mod ruling;
mod table;
mod verdict;
