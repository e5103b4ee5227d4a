PATH=/opt/bin:$PATH
export PATH
