package mirror

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/upstream"
)

// MailboxInfo is one mailbox of the list, names as go-imap decodes them (UTF-8).
type MailboxInfo struct {
	Name       string
	Delim      rune
	Attrs      []imap.MailboxAttr // special-use, \Noselect, \HasChildren …, as the provider says
	Subscribed bool
}

// maxMailboxes is how many mailboxes of an account are looked at.
const maxMailboxes = 20_000

// canonical is the name under which a mailbox is known: INBOX in any case is INBOX
// (RFC 9051 §5.1).
func canonical(name string) string {
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return name
}

// selectable says whether a mailbox of those attributes is one.
func selectable(attrs string) bool {
	for _, a := range splitFlags[string](attrs) {
		if strings.EqualFold(a, string(imap.MailboxAttrNoSelect)) || strings.EqualFold(a, string(imap.MailboxAttrNonExistent)) {
			return false
		}
	}
	return true
}

// listWait is how long a list that is known already waits for a fresh one, listFor how long one
// counts as fresh.
const (
	listWait = 2 * time.Second
	listFor  = time.Second
)

// List returns all mailboxes, subscribed or not, INBOX first, as the provider has them now; without the
// provider what is known.
func (m *Mirror) List(ctx context.Context) ([]MailboxInfo, error) {
	known, err := m.readList(ctx)
	if err != nil {
		return nil, err
	}
	if len(known) == 0 {
		if err := m.refreshList(ctx); err != nil {
			return nil, err
		}
		return m.readList(ctx)
	}
	if time.Since(time.Unix(0, m.listed.Load())) < listFor {
		return known, nil
	}
	limited, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	if err := m.refreshList(limited); err != nil {
		m.o.Log.Debug("serving the list of mailboxes that is known", "error", err)
		return known, nil
	}
	return m.readList(ctx)
}

func (m *Mirror) readList(ctx context.Context) ([]MailboxInfo, error) {
	rows, err := m.o.DB.Read().QueryContext(ctx, `
		SELECT name, delim, attrs, subscribed FROM mailbox WHERE account = ? ORDER BY name <> 'INBOX', name`, m.o.Account)
	if err != nil {
		return nil, fmt.Errorf("list the mailboxes: %w", err)
	}
	defer rows.Close()
	var list []MailboxInfo
	for rows.Next() {
		var info MailboxInfo
		var delim, attrs string
		if err := rows.Scan(&info.Name, &delim, &attrs, &info.Subscribed); err != nil {
			return nil, fmt.Errorf("list the mailboxes: %w", err)
		}
		if delim != "" {
			info.Delim, _ = utf8.DecodeRuneInString(delim)
		}
		info.Attrs = splitFlags[imap.MailboxAttr](attrs)
		list = append(list, info)
	}
	return list, rows.Err()
}

// usualNames are what mailboxes of a use are called where the provider does not say it.
var usualNames = map[imap.MailboxAttr][]string{
	imap.MailboxAttrDrafts:  {"Drafts", "Draft", "Entwürfe", "Brouillons"},
	imap.MailboxAttrSent:    {"Sent", "Sent Messages", "Sent Items", "Sent Mail", "Gesendet", "Envoyés"},
	imap.MailboxAttrTrash:   {"Trash", "Deleted Messages", "Deleted Items", "Bin", "Papierkorb", "Corbeille"},
	imap.MailboxAttrJunk:    {"Junk", "Spam", "Junk E-mail", "Bulk Mail"},
	imap.MailboxAttrArchive: {"Archive", "Archives", "Archiv"},
	imap.MailboxAttrAll:     {"All Mail"},
}

// SpecialUse is the name of the mailbox with that attribute, by attribute or, failing that, by its usual name.
func (m *Mirror) SpecialUse(ctx context.Context, attr imap.MailboxAttr) (string, bool) {
	list, err := m.readList(ctx)
	if err == nil && len(list) == 0 {
		list, err = m.List(ctx)
	}
	if err != nil {
		return "", false
	}
	for _, info := range list {
		if slices.ContainsFunc(info.Attrs, func(a imap.MailboxAttr) bool { return strings.EqualFold(string(a), string(attr)) }) {
			return info.Name, true
		}
	}
	for _, usual := range usualNames[attr] {
		for _, info := range list {
			last := info.Name
			if info.Delim != 0 {
				last = last[strings.LastIndex(last, string(info.Delim))+1:]
			}
			if strings.EqualFold(last, usual) && selectable(joinFlags(info.Attrs)) {
				return info.Name, true
			}
		}
	}
	return "", false
}

// refreshList asks the provider which mailboxes there are.
func (m *Mirror) refreshList(ctx context.Context) error {
	m.listing.Lock()
	defer m.listing.Unlock()
	c, err := m.o.Provider.Acquire(ctx, "")
	if err != nil {
		return offline(err)
	}
	defer m.o.Provider.Release(c)
	list, subscriptions, err := m.askList(c)
	if err != nil {
		return fmt.Errorf("list the mailboxes: %w", offline(err))
	}
	return m.saveList(ctx, list, subscriptions)
}

// askList uses LIST-EXTENDED where offered (RFC 5258); else subscriptions are not known: LSUB
// is not something go-imap's client can read.
func (m *Mirror) askList(c *upstream.Conn) (list []MailboxInfo, subscriptions bool, err error) {
	var o *imap.ListOptions
	if c.Caps().Has(imap.CapListExtended) {
		subscriptions = true
		o = &imap.ListOptions{ReturnSubscribed: true, ReturnChildren: true, ReturnSpecialUse: c.Caps().Has(imap.CapSpecialUse)}
	}
	if list, err = listAll(c, o); err != nil || !subscriptions {
		return list, subscriptions, err
	}
	// A subscription outlives its mailbox (RFC 9051 §6.3.7).
	subscribed, err := listAll(c, &imap.ListOptions{SelectSubscribed: true})
	for _, info := range subscribed {
		if !slices.ContainsFunc(list, func(known MailboxInfo) bool { return known.Name == info.Name }) {
			info.Subscribed = true
			info.Attrs = []imap.MailboxAttr{imap.MailboxAttrNonExistent}
			list = append(list, info)
		}
	}
	return list, subscriptions, err
}

func listAll(c *upstream.Conn, o *imap.ListOptions) ([]MailboxInfo, error) {
	var list []MailboxInfo
	cmd := c.List("", "*", o)
	for data := cmd.Next(); data != nil; data = cmd.Next() {
		if len(list) < maxMailboxes && data.Mailbox != "" {
			list = append(list, infoOf(data))
		}
	}
	return list, cmd.Close()
}

func infoOf(data *imap.ListData) MailboxInfo {
	info := MailboxInfo{Name: canonical(data.Mailbox), Delim: data.Delim}
	for _, a := range data.Attrs {
		if strings.EqualFold(string(a), string(imap.MailboxAttrSubscribed)) {
			info.Subscribed = true
		} else {
			info.Attrs = append(info.Attrs, a)
		}
	}
	return info
}

// saveList makes the table say what the provider said. Mailboxes that are gone lose their rows.
func (m *Mirror) saveList(ctx context.Context, list []MailboxInfo, subscriptions bool) error {
	present := map[string]bool{}
	for _, info := range list {
		present[info.Name] = true
	}
	known, err := m.readList(ctx)
	if err != nil {
		return err
	}
	var gone []string
	for _, info := range known {
		if !present[info.Name] {
			gone = append(gone, info.Name)
			if err := m.keepVanished(ctx, info.Name); err != nil {
				return err
			}
		}
	}
	err = m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, name := range gone {
			if err := m.deleteRows(ctx, tx, name); err != nil {
				return err
			}
		}
		return each(ctx, tx, `
			INSERT INTO mailbox (account, name, delim, attrs, subscribed, recent) VALUES (?1, ?2, ?3, ?4, ?5, ?7)
			ON CONFLICT (account, name) DO UPDATE SET delim = ?3, attrs = ?4, subscribed = iif(?6, ?5, subscribed)`,
			list, func(info MailboxInfo) []any {
				delim := ""
				if info.Delim != 0 {
					delim = string(info.Delim)
				}
				return []any{m.o.Account, info.Name, delim, joinFlags(info.Attrs), info.Subscribed || !subscriptions, subscriptions, len(known) > 0}
			})
	})
	if err != nil {
		return fmt.Errorf("save the list of mailboxes: %w", err)
	}
	for _, name := range gone {
		m.forget(name)
	}
	m.listed.Store(time.Now().UnixNano())
	return nil
}

func (m *Mirror) deleteRows(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM message WHERE mailbox IN (SELECT id FROM mailbox WHERE account = ? AND name = ?)`, m.o.Account, name)
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM mailbox WHERE account = ? AND name = ?`, m.o.Account, name)
	}
	return err
}

// forget ends the box of a mailbox that is gone: its handles see an empty one.
func (m *Mirror) forget(name string) {
	m.mu.Lock()
	b := m.boxes[name]
	delete(m.boxes, name)
	m.mu.Unlock()
	if b == nil {
		return
	}
	b.gone.Store(true)
	b.mem.Lock()
	defer b.mem.Unlock()
	b.rows, b.snap = nil, nil
	b.notify()
}

// errUseAttr is RFC 6154 §3's answer to a special use that cannot be given.
var errUseAttr = &imap.Error{Type: imap.StatusResponseTypeNo, Code: "USEATTR", Text: "The provider gives mailboxes no special use"}

// Create makes a mailbox at the provider, with its special use.
func (m *Mirror) Create(ctx context.Context, name string, o *imap.CreateOptions) error {
	return m.changeList(ctx, "create", name, func(c *upstream.Conn) error {
		if o != nil && len(o.SpecialUse) > 0 && !c.Caps().Has(imap.CapCreateSpecialUse) {
			return errUseAttr
		}
		return c.Create(name, o).Wait()
	})
}

// Delete removes a mailbox and its messages at the provider, once what holds ask for has been kept.
func (m *Mirror) Delete(ctx context.Context, name string) error {
	if err := m.keepAll(ctx, name, MailboxDeleted); err != nil {
		return fmt.Errorf("delete mailbox %q: %w", name, err)
	}
	return m.changeList(ctx, "delete", name, func(c *upstream.Conn) error { return c.Delete(name).Wait() })
}

// Rename renames a mailbox and those below it. What is known of them stays known.
func (m *Mirror) Rename(ctx context.Context, name, to string) error {
	name = canonical(name)
	if err := m.keepRenamed(ctx, name); err != nil {
		return fmt.Errorf("rename mailbox %q: %w", name, err)
	}
	return m.changeList(ctx, "rename", name, func(c *upstream.Conn) error {
		if err := c.Rename(name, to, nil).Wait(); err != nil {
			return err
		}
		// Renaming INBOX moves its messages; the mailbox stays (RFC 9051 §6.3.6).
		if name == "INBOX" {
			return nil
		}
		return m.renameRows(ctx, name, to)
	})
}

// keepRenamed keeps what a hold on the old name wants.
func (m *Mirror) keepRenamed(ctx context.Context, name string) error {
	if stands, err := m.stands(ctx); err != nil || !stands {
		return err
	}
	if name == "INBOX" { // those below it stay (RFC 9051 §6.3.6)
		return m.keepAll(ctx, name, Moved)
	}
	return m.eachOf(ctx, name, func(each string) error { return m.keepAll(ctx, each, Moved) })
}

func (m *Mirror) renameRows(ctx context.Context, name, to string) error {
	return m.eachOf(ctx, name, func(each string) error { return m.renameOne(ctx, each, to+strings.TrimPrefix(each, name)) })
}

// eachOf calls f for a mailbox and those below it.
func (m *Mirror) eachOf(ctx context.Context, name string, f func(string) error) error {
	list, err := m.readList(ctx)
	if err != nil {
		return err
	}
	for _, info := range list {
		below := info.Delim != 0 && strings.HasPrefix(info.Name, name+string(info.Delim))
		if info.Name != name && !below {
			continue
		}
		if err := f(info.Name); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mirror) renameOne(ctx context.Context, name, to string) error {
	err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		// What still has the name here was only a level of the hierarchy: the provider has agreed.
		if err := m.deleteRows(ctx, tx, to); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE mailbox SET name = ? WHERE account = ? AND name = ?`, to, m.o.Account, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("rename mailbox %q: %w", name, err)
	}
	m.forget(to)
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.boxes[name]; b != nil {
		delete(m.boxes, name)
		m.boxes[to] = b
		b.mem.Lock()
		defer b.mem.Unlock()
		b.name, b.snap = to, nil
		b.notify()
	}
	return nil
}

// Subscribe subscribes to a mailbox or ends that.
func (m *Mirror) Subscribe(ctx context.Context, name string, on bool) error {
	name = canonical(name)
	return m.changeList(ctx, "subscribe", name, func(c *upstream.Conn) error {
		command := c.Unsubscribe
		if on {
			command = c.Subscribe
		}
		if err := command(name).Wait(); err != nil {
			return err
		}
		return m.o.DB.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE mailbox SET subscribed = ? WHERE account = ? AND name = ?`, on, m.o.Account, name)
			return err
		})
	})
}

// changeList runs a command that changes the list, and reads the list anew.
func (m *Mirror) changeList(ctx context.Context, what, name string, f func(c *upstream.Conn) error) error {
	c, err := m.o.Provider.Acquire(ctx, "")
	if err == nil {
		err = f(c)
		m.o.Provider.Release(c)
	}
	if err != nil {
		return fmt.Errorf("%s mailbox %q: %w", what, name, offline(err))
	}
	m.wake.live.set()
	return m.refreshList(ctx)
}
