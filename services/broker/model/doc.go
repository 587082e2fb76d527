// Package model checks the broker against a reference that is obviously right:
// its tests drive random histories, each made from one number, over a disk that
// crashes and fails, and compare what clients are told with maps and slices.
//
// A history runs in a synctest bubble, where time passes only when everybody
// waits: retention, compaction, timeouts and the linger of syncs cost nothing.
// Requests and answers go through the protocol, over pipes. On one processor a
// number makes the same history again but for what Go leaves open: the order
// in which goroutines of one request (partitions of a topic being made, logs
// being opened, a burst of producers) reach the disk, the choice of select and
// the order of maps. A failure that depends on it may need several runs.
package model
