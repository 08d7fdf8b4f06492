// Package upstream is the provider as Sealpost sees it: IMAP and submission over TLS,
// with every read bounded in size and time, and nothing of the connection trusted
// before it is verified.
//
// A [Provider] is one account. [Provider.Acquire] leases IMAP connections from a pool,
// [Provider.Watch] keeps one idling, [Provider.Submit] sends. Between the network and
// go-imap's client sits a filter (filter.go) for what that library cannot cope with.
package upstream
