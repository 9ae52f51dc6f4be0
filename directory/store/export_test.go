package store

// FindTenants is the statement that finds tenants by words.
const FindTenants = findTenants
