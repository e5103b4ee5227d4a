# rspamd marks what is probably spam.
require ["fileinto"];
if header :is "X-Spam" "Yes" {
  fileinto "Junk";
}
