-- Whose name mail may have. Of users who logged in: their own address, and those that lead to them (/etc/postfix/aliases).
-- Of others: FROM_OWN_DOMAIN says that the name is one of this domain (local.d/composites.conf).
local function addresses_of(user)
  local own = { [user] = true }
  local file = io.open('/etc/postfix/aliases', 'r')
  if file then
    for line in file:lines() do
      local alias, targets = line:match('^(%S+)%s+(.+)$')
      if alias then
        for target in targets:gmatch('[^%s,]+') do
          if target:lower() == user then own[alias:lower()] = true end
        end
      end
    end
    file:close()
  end
  return own
end

local function domain()
  local file = io.open('/etc/mailname', 'r')
  local name = file and file:read('*l') or ''
  if file then file:close() end
  return name:lower()
end

rspamd_config:register_symbol({
  name = 'FROM_OF_ANOTHER',
  type = 'prefilter',
  callback = function(task)
    local user = task:get_user()
    if not user then return end
    local own = addresses_of(user:lower())
    local function refuse(name)
      task:set_pre_result('reject', string.format('%s: not an address of %s', name, user), 'from')
      return true
    end
    local from = task:get_from('mime') or {}
    if #from == 0 then return refuse('From') end
    for _, address in ipairs(from) do
      if not own[(address.addr or ''):lower()] then return refuse('From') end
    end
    for _, name in ipairs({ 'From', 'Sender', 'Resent-From', 'Resent-Sender' }) do
      for _, header in ipairs(task:get_header_full(name) or {}) do
        for _, address in ipairs(require('rspamd_util').parse_mail_address(header.value, task:get_mempool()) or {}) do
          if not own[(address.addr or ''):lower()] then return refuse(name) end
        end
      end
    end
  end,
})

rspamd_config:register_symbol({
  name = 'FROM_OWN_DOMAIN',
  type = 'normal',
  score = 0.0,
  callback = function(task)
    local ip = task:get_from_ip()
    if task:get_user() or not ip or not ip:is_valid() or ip:is_local() and tostring(ip):match('^127%.') or tostring(ip) == '::1' then return false end
    local own = domain()
    for _, address in ipairs(task:get_from('mime') or {}) do
      if (address.domain or ''):lower() == own then return true end
    end
    return false
  end,
})
