// Package peers starts the programs that users run beside or against Sealpost: Dovecot, Postfix,
// GnuPG, command-line mail programs, Thunderbird. Everything is on loopback with its state in a temporary
// folder, and ends with the test. It is built with the tag peers. A program that is not installed fails
// the test with the Debian package to install.
package peers
