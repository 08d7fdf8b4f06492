package mirror

import (
	"context"
	"fmt"
)

// Protection counts how the messages of one mailbox rest at the provider.
type Protection struct {
	Mailbox                                    string
	Messages                                   int // all of them; those not opened yet are of no kind
	Encrypted, Sealed, Clear, Failed, Unopened int
}

// Protection of all mailboxes that can hold messages, by name, as far as is known without asking the provider.
func (m *Mirror) Protection(ctx context.Context) ([]Protection, error) {
	rows, err := m.o.DB.Read().QueryContext(ctx, `
		SELECT b.name, b.attrs, count(m.uid), count(m.uid) - count(c.id), coalesce(sum(c.kind = 'encrypted'), 0),
			coalesce(sum(c.kind = 'sealed'), 0), coalesce(sum(c.kind = 'clear'), 0), coalesce(sum(c.kind = 'failed'), 0)
		FROM mailbox b LEFT JOIN message m ON m.mailbox = b.id LEFT JOIN content c INDEXED BY content_state ON c.id = m.content
		WHERE b.account = ? GROUP BY b.id ORDER BY b.name`, m.o.Account)
	if err != nil {
		return nil, fmt.Errorf("count the messages: %w", err)
	}
	defer rows.Close()
	var all []Protection
	for rows.Next() {
		var p Protection
		var attrs string
		if err := rows.Scan(&p.Mailbox, &attrs, &p.Messages, &p.Unopened, &p.Encrypted, &p.Sealed, &p.Clear, &p.Failed); err != nil {
			return nil, fmt.Errorf("count the messages: %w", err)
		}
		if selectable(attrs) {
			all = append(all, p)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count the messages: %w", err)
	}
	return all, nil
}
