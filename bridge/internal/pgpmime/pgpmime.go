// Package pgpmime turns messages into PGP/MIME (RFC 3156) with protected headers
// (RFC 9788) and back, streaming: nothing is held in memory whole, and no decrypted
// byte is released before integrity is verified.
//
// Outgoing: [Normalise], then [Encrypt]. Incoming: [Open], whatever the message is, then
// [WithStatus]. At rest: [Seal] and [Unseal].
package pgpmime

// Field is one header field, value unfolded, without line ending.
type Field struct{ Name, Value string }
