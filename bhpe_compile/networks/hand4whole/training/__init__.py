"""How Hand4Whole learns.

lesson   what the engine asks           samples  a picture -> what the network sees
targets  labels -> the network's units  losses   what is compared
boxes    where a network itself crops
"""
