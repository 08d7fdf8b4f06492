package config

import (
	"fmt"
	"net/url"
	"strings"
)

// lists checks the lists of organisations.
func (c *checker) lists(lists []List) {
	seen := map[string]bool{}
	for i, l := range lists {
		key := fmt.Sprintf("keydisc.list.%d", i)
		c.listURL(key+".url", l.URL)
		if seen[l.URL] {
			c.bad(key+".url", "the list is configured twice", "remove one of them")
		}
		seen[l.URL] = true
		if l.Certificate == "" {
			c.bad(key+".certificate", "it is missing", "name the file with the organisation's certificate, which you have from the organisation itself")
		}
		if len(l.Domains) == 0 {
			c.bad(key+".domains", "there are none", "name the domains about whose addresses the organisation may speak")
		}
		for _, domain := range l.Domains {
			if !isAddress("x@" + domain) {
				c.bad(key+".domains", fmt.Sprintf("%q is not a domain", domain), "write it as example.org")
			}
		}
		if l.MaxAge != 0 && l.Age() < day {
			c.bad(key+".max_age", l.MaxAge.String()+" is too short", `choose "1d" or more`)
		}
	}
}

// listURL takes https:// and paths.
func (c *checker) listURL(key, value string) {
	const remedy = "write https://example.org/staff.asc, or the path of a file"
	if value == "" || strings.Contains(value, "://") && !strings.HasPrefix(value, "https://") {
		c.bad(key, "it is neither an https:// address nor a file", remedy)
		return
	}
	u, err := url.Parse(value)
	if !strings.HasPrefix(value, "https://") {
		return
	}
	switch {
	case err != nil || u.Hostname() == "":
		c.bad(key, "it is neither an https:// address nor a file", remedy)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "": // not shown: it may hold a password
		c.bad(key, "a user name, a password or a query does not belong in it", remedy)
	}
}
