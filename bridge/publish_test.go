package bridge

import (
	"fmt"
	"strings"
	"testing"
)

// publicationStates is "address place state" of each of the account's publications.
func publicationStates(t *testing.T, a *Account) string {
	t.Helper()
	all, err := a.Publications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, p := range all {
		states = append(states, fmt.Sprintf("%s %s %s", p.Address, p.Place, p.State))
	}
	return strings.Join(states, ", ")
}
