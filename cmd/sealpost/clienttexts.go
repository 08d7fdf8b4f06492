package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// derOf is a PEM file's certificate as configuration profiles hold it.
func derOf(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return "", errors.New("the local CA file holds no certificate")
	}
	return base64.StdEncoding.EncodeToString(block.Bytes), nil
}

// uuidOf is the same for the same account and purpose, so that a profile replaces its
// earlier self (RFC 9562 §5.8).
func uuidOf(address, purpose string) string {
	sum := sha256.Sum256([]byte("sealpost " + purpose + " " + address))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// clientTexts are the settings in words, or as each program's configuration.
var clientTexts = map[string]string{
	"": `{{.Address}}
  User name      {{.Username}}
  Password       {{.Password}}
  IMAP           {{listeners .IMAP .IMAPS}}
  SMTP           {{listeners .SMTP .SMTPS}}
  Trust the CA   {{.CAFile}}

`,
	"thunderbird": `Thunderbird for {{.Address}}
  1. Settings, Privacy & Security, Manage Certificates, Authorities, Import:
       {{.CAFile}}
     and tick "Trust this CA to identify websites".
  2. Account Settings, Add Mail Account: your name, {{.Address}},
     password {{.Password}}; choose "Configure manually":
       Incoming  IMAP, {{host .IMAPS}}, port {{port .IMAPS}}, SSL/TLS, normal password, user {{.Username}}
       Outgoing  SMTP, {{host .SMTPS}}, port {{port .SMTPS}}, SSL/TLS, normal password, user {{.Username}}
  3. Leave Thunderbird's own end-to-end encryption off: Sealpost does it.

`,
	"mutt": `set from = "{{.Address}}"
set imap_user = "{{.Username}}"
set imap_pass = "{{.Password}}"
set folder = "imaps://{{.IMAPS}}/"
set spoolfile = "+INBOX"
set record = "+Sent"
set postponed = "+Drafts"
set smtp_url = "smtps://{{.Username}}@{{.SMTPS}}/"
set smtp_pass = "{{.Password}}"
set certificate_file = "{{.CAFile}}"
set ssl_starttls = yes
`,
	"mbsync": `IMAPAccount {{under .Address}}
Host localhost
Port {{port .IMAPS}}
User {{.Username}}
Pass {{.Password}}
SSLType IMAPS
CertificateFile {{.CAFile}}

IMAPStore {{under .Address}}-remote
Account {{under .Address}}

`,
	"msmtp": `account {{under .Address}}
host localhost
port {{port .SMTPS}}
tls on
tls_starttls off
tls_trust_file {{.CAFile}}
auth on
user {{.Username}}
password {{.Password}}
from {{.Address}}

`,
	"outlook": `Outlook for {{.Address}}
  1. Trust the local authority (Windows: double-click the file, Install Certificate, Trusted Root
     Certification Authorities):
       {{.CAFile}}
  2. File, Add Account, Advanced options, "Let me set up my account manually", IMAP:
       Incoming  {{host .IMAPS}}, port {{port .IMAPS}}, encryption SSL/TLS
       Outgoing  {{host .SMTPS}}, port {{port .SMTPS}}, encryption SSL/TLS
       User name {{.Username}}, password {{.Password}}

`,
	"apple": `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadVersion</key><integer>1</integer>
  <key>PayloadIdentifier</key><string>sealpost.{{under .Address}}</string>
  <key>PayloadUUID</key><string>{{uuid .Address "profile"}}</string>
  <key>PayloadDisplayName</key><string>Sealpost for {{html .Address}}</string>
  <key>PayloadContent</key>
  <array>
    <dict>
      <key>PayloadType</key><string>com.apple.security.root</string>
      <key>PayloadVersion</key><integer>1</integer>
      <key>PayloadIdentifier</key><string>sealpost.{{under .Address}}.ca</string>
      <key>PayloadUUID</key><string>{{uuid .Address "ca"}}</string>
      <key>PayloadDisplayName</key><string>Sealpost local CA</string>
      <key>PayloadContent</key><data>{{ca .CAFile}}</data>
    </dict>
    <dict>
      <key>PayloadType</key><string>com.apple.mail.managed</string>
      <key>PayloadVersion</key><integer>1</integer>
      <key>PayloadIdentifier</key><string>sealpost.{{under .Address}}.mail</string>
      <key>PayloadUUID</key><string>{{uuid .Address "mail"}}</string>
      <key>PayloadDisplayName</key><string>{{html .Address}}</string>
      <key>EmailAccountType</key><string>EmailTypeIMAP</string>
      <key>EmailAddress</key><string>{{html .Address}}</string>
      <key>IncomingMailServerAuthentication</key><string>EmailAuthPassword</string>
      <key>IncomingMailServerHostName</key><string>localhost</string>
      <key>IncomingMailServerPortNumber</key><integer>{{port .IMAPS}}</integer>
      <key>IncomingMailServerUseSSL</key><true/>
      <key>IncomingMailServerUsername</key><string>{{html .Username}}</string>
      <key>IncomingPassword</key><string>{{html .Password}}</string>
      <key>OutgoingMailServerAuthentication</key><string>EmailAuthPassword</string>
      <key>OutgoingMailServerHostName</key><string>localhost</string>
      <key>OutgoingMailServerPortNumber</key><integer>{{port .SMTPS}}</integer>
      <key>OutgoingMailServerUseSSL</key><true/>
      <key>OutgoingMailServerUsername</key><string>{{html .Username}}</string>
      <key>OutgoingPasswordSameAsIncomingPassword</key><true/>
    </dict>
  </array>
</dict>
</plist>
`,
}
