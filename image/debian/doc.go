// Package debian resolves Debian packages to a lock file and fetches, verifies,
// caches and extracts what the lock names.
//
//	apt sources or flags -> Mirror -> Archive: InRelease (signature)
//	    -> Packages.xz (sha256) -> Entry -> .deb (sha256) -> Store -> Package
//
// Everything is Go and runs as an ordinary user; no program of the host is
// started. Time is an argument: the package never asks the clock what day it
// is. A package that is in the Store already is handed out without network.
package debian
