// Package manifest declares what a service is: its unit file in a subset of
// the systemd syntax, the paths it meets its supervisor at, and the shape of
// what box and services report about themselves.
package manifest
